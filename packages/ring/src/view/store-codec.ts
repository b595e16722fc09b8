/** The bytes a ViewStore keeps: JSON with a checksum, so that a torn or foreign file is refused instead of believed. */
import { createHash } from 'node:crypto'
import { RingError } from '../errors.ts'
import { durableSchema, type Durable } from './messages.ts'
import { EMPTY_DURABLE } from './state.ts'

/** What is to be said when a view of before signed votes was found. */
export const OUTDATED_VIEW =
  'the stored view is of a version without signed votes: the ring is founded anew from the states'

/** Encodes what must survive a restart. */
export function encodeDurable(durable: Durable): Uint8Array {
  const body = JSON.stringify(durable)
  return new TextEncoder().encode(`${checksum(body)} ${body}\n`)
}

/**
 * Reads it back; null is a first start. What a version before signed votes has kept counts as one too, as no such ring can
 * be gone on with: its views could be proven to nobody. `onOutdated` is told. Throws RingError BAD_STORE.
 */
export function decodeDurable(bytes: Uint8Array | null, onOutdated?: () => void): Durable {
  if (bytes === null) return EMPTY_DURABLE
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes).trimEnd()
    const body = text.slice(65)
    if (text.slice(0, 65) !== `${checksum(body)} `) throw new Error('checksum does not match')
    const value: unknown = JSON.parse(body)
    if (isUnsigned(value)) {
      onOutdated?.()
      return EMPTY_DURABLE
    }
    return durableSchema.parse(value)
  } catch (cause) {
    throw new RingError(
      'BAD_STORE',
      `the stored view of ${bytes.byteLength} bytes cannot be read; restore it, or remove it if this node may forget its votes`,
      { cause },
    )
  }
}

/** Version 1, whose views came without votes. */
function isUnsigned(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'version' in value && value.version === 1
}

function checksum(text: string): string {
  return createHash('sha3-256').update(text).digest('hex')
}
