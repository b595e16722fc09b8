/** The two messages of a dial back: what is asked, what is answered. Pure. */
import { z } from 'zod'
import { RingError } from '../errors.ts'
import type { DialBack } from './reachability.ts'

/** Bytes of either message at most. */
export const MAX_REACH_MESSAGE_BYTES = 512

const requestSchema = z.strictObject({ port: z.number().int().min(1).max(65_535) })
// An address and nothing else: it is judged, and told to others as this node's own.
const answerSchema = z.strictObject({ host: z.union([z.ipv4(), z.ipv6()]), reached: z.boolean() })

/** Asks to be dialled back on `port`. */
export function encodeReachRequest(port: number): Uint8Array {
  return encode({ port })
}

/** The port that is asked for. Throws RingError BAD_MESSAGE. */
export function parseReachRequest(bytes: Uint8Array): number {
  return decode(bytes, requestSchema, 'request').port
}

/** Says at which address the asker is seen and whether it could be dialled there. */
export function encodeReachAnswer({ observedHost, reached }: DialBack): Uint8Array {
  return encode({ host: observedHost, reached })
}

/** What a peer answered. Throws RingError BAD_MESSAGE. */
export function parseReachAnswer(bytes: Uint8Array): DialBack {
  const { host, reached } = decode(bytes, answerSchema, 'answer')
  return { observedHost: host, reached }
}

function encode(value: object): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value))
}

function decode<T>(bytes: Uint8Array, schema: z.ZodType<T>, what: string): T {
  try {
    return schema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)))
  } catch (cause) {
    throw new RingError('BAD_MESSAGE', `not a dial-back ${what}: ${bytes.byteLength} bytes`, { cause })
  }
}
