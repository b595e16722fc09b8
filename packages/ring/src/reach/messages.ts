/** The two messages of a dial back: what is asked, what is answered. Pure. */
import { z } from 'zod'
import { decodeMessage, encodeMessage } from './json-message.ts'
import type { DialBack } from './reachability.ts'

/** Bytes of either message at most. */
export const MAX_REACH_MESSAGE_BYTES = 512

const requestSchema = z.strictObject({ port: z.number().int().min(1).max(65_535) })
// An address and nothing else: it is judged, and told to others as this node's own.
const answerSchema = z.strictObject({ host: z.union([z.ipv4(), z.ipv6()]), reached: z.boolean() })

/** Asks to be dialled back on `port`. */
export function encodeReachRequest(port: number): Uint8Array {
  return encodeMessage({ port })
}

/** The port that is asked for. Throws RingError BAD_MESSAGE. */
export function parseReachRequest(bytes: Uint8Array): number {
  return decodeMessage(bytes, requestSchema, 'dial-back request').port
}

/** Says at which address the asker is seen and whether it could be dialled there. */
export function encodeReachAnswer({ observedHost, reached }: DialBack): Uint8Array {
  return encodeMessage({ host: observedHost, reached })
}

/** What a peer answered. Throws RingError BAD_MESSAGE. */
export function parseReachAnswer(bytes: Uint8Array): DialBack {
  const { host, reached } = decodeMessage(bytes, answerSchema, 'dial-back answer')
  return { observedHost: host, reached }
}
