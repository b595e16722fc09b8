/** The bytes a ViewStore keeps: JSON with a checksum, so that a torn or foreign file is refused instead of believed. */
import { createHash } from 'node:crypto'
import { RingError } from '../errors.ts'
import { durableSchema, type Durable } from './messages.ts'
import { EMPTY_DURABLE } from './state.ts'

/** Encodes what must survive a restart. */
export function encodeDurable(durable: Durable): Uint8Array {
  const body = JSON.stringify(durable)
  return new TextEncoder().encode(`${checksum(body)} ${body}\n`)
}

/** Reads it back; null is a first start. Throws RingError BAD_STORE. */
export function decodeDurable(bytes: Uint8Array | null): Durable {
  if (bytes === null) return EMPTY_DURABLE
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes).trimEnd()
    const body = text.slice(65)
    if (text.slice(0, 65) !== `${checksum(body)} `) throw new Error('checksum does not match')
    const value: unknown = JSON.parse(body)
    if (isUnsigned(value)) throw outdated()
    return durableSchema.parse(value)
  } catch (cause) {
    if (cause instanceof RingError) throw cause
    throw new RingError(
      'BAD_STORE',
      `the stored view of ${bytes.byteLength} bytes cannot be read; restore it, or remove it if this node may forget its votes`,
      { cause },
    )
  }
}

/** Version 1 kept views without the votes that prove them: others could not be shown why they should believe them. */
function isUnsigned(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'version' in value && value.version === 1
}

function outdated(): RingError {
  return new RingError(
    'BAD_STORE',
    'the stored view is of version 1, whose votes are not signed, expected 2; move the file `view` away on all nodes of the job: the ring is founded anew from the states they keep',
  )
}

function checksum(text: string): string {
  return createHash('sha3-256').update(text).digest('hex')
}
