/** Messages between two peers about reaching each other: JSON that fits a schema, and nothing else. Pure. */
import type { z } from 'zod'
import { RingError } from '../errors.ts'

/** The bytes of a message. */
export function encodeMessage(value: object): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value))
}

/** The message in `bytes`; `what` is for the error. Throws RingError BAD_MESSAGE. */
export function decodeMessage<T>(bytes: Uint8Array, schema: z.ZodType<T>, what: string): T {
  try {
    return schema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)))
  } catch (cause) {
    throw new RingError('BAD_MESSAGE', `not a ${what}: ${bytes.byteLength} bytes`, { cause })
  }
}
