/** Bytes and text: labels, comparison, concatenation, strict UTF-8. */
import { WireError } from './errors.ts'

const ENCODER = new TextEncoder()
const STRICT_DECODER = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** UTF-8 bytes of `text`. */
export function utf8(text: string): Uint8Array {
  return ENCODER.encode(text)
}

/** Text of UTF-8 bytes; throws `BAD_DELTA` naming `what` on a malformed sequence, so that one text has one encoding. */
export function strictUtf8(bytes: Uint8Array, what: string): string {
  try {
    return STRICT_DECODER.decode(bytes)
  } catch (cause) {
    throw new WireError('BAD_DELTA', `${what} is not valid UTF-8`, { cause })
  }
}

/** One buffer holding the parts in order. */
export function concatBytes(...parts: Uint8Array[]): Uint8Array {
  return Buffer.concat(parts)
}

/** Whether two byte strings are equal. Not constant time: for public values only. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

/** Lower-case hexadecimal. */
export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

/** Throws `BAD_ARGUMENT` unless `bytes` has exactly `length` bytes. */
export function requireLength(bytes: Uint8Array, length: number, what: string): void {
  if (bytes.length !== length) {
    throw new WireError('BAD_ARGUMENT', `${what} is ${bytes.length} bytes, expected ${length}`)
  }
}
