/** What a node asks for when it needs the ring's state. */
import { z } from 'zod'
import { RingError } from '../errors.ts'

const requestSchema = z.strictObject({
  round: z.number().int().min(0).max(0xffff_ffff),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  offset: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
})

/** The state after `round`, whose SHA3-256 is `hash`, from byte `offset` on. */
export type StateRequest = z.infer<typeof requestSchema>

/** The request as frame payload. */
export function encodeStateRequest(request: StateRequest): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(request))
}

/** Reads a request. Throws RingError BAD_FRAME. */
export function parseStateRequest(payload: Uint8Array): StateRequest {
  try {
    return requestSchema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload)))
  } catch (cause) {
    throw new RingError('BAD_FRAME', 'not a state request', { cause })
  }
}
