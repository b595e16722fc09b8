/**
 * The frame of a trace file: a magic, then records of [u32 length, payload, 16-byte link], little-endian. A link is the
 * head of SHA3-256(link before || length || payload), so that a record holds for this file and this place only: what a
 * crash left at the end, or an old file's block under a new one's name, is seen and nothing after it is believed.
 */
import { createHash } from 'node:crypto'
import { GspoError } from '../errors.ts'

/** The first bytes of a trace file. */
export const TRACE_MAGIC: Uint8Array = Buffer.from('GYMTRACE', 'latin1')

/** Bytes of a link. */
const LINK_BYTES = 16
const LENGTH_BYTES = 4

function linkOf(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha3-256')
  for (const part of parts) hash.update(part)
  return hash.digest().subarray(0, LINK_BYTES)
}

/** The link before the first record. */
export const FIRST_LINK: Uint8Array = linkOf(TRACE_MAGIC)

/** A record's bytes and the link that the next one goes on from. */
export function toRecord(payload: Uint8Array, before: Uint8Array): { bytes: Uint8Array; link: Uint8Array } {
  const length = Buffer.alloc(LENGTH_BYTES)
  length.writeUInt32LE(payload.length)
  const link = linkOf(before, length, payload)
  return { bytes: Buffer.concat([length, payload, link]), link }
}

/**
 * Finds the whole records in a file's bytes as they come. Holds one record at most, and never more than the bytes that
 * came: a false length costs nothing.
 */
export class RecordReader {
  readonly #maxRecordBytes: number
  #parts: Uint8Array[] = []
  #held = 0
  #hasMagic = false
  #link = FIRST_LINK
  #wholeBytes = 0
  #fault: string | null = null

  constructor(maxRecordBytes: number) {
    this.#maxRecordBytes = maxRecordBytes
  }

  /** Bytes up to the end of the last whole record. */
  get wholeBytes(): number {
    return this.#wholeBytes
  }

  /** The link that the next record goes on from. */
  get link(): Uint8Array {
    return this.#link
  }

  /** Bytes that came after the last whole record, once a fault has been found those that came with it. */
  get heldBytes(): number {
    return this.#held
  }

  /** What is wrong with the record after the last whole one; null while it may still be coming. */
  get fault(): string | null {
    return this.#fault
  }

  /** The payloads that are whole with these bytes; none any more after a fault. Throws BAD_TRACE without the magic. */
  push(chunk: Uint8Array): Uint8Array[] {
    if (this.#fault !== null) return []
    this.#parts.push(chunk)
    this.#held += chunk.length
    const payloads: Uint8Array[] = []
    while (this.#fault === null) {
      if (!this.#hasMagic) {
        if (this.#held < TRACE_MAGIC.length) break
        if (Buffer.compare(this.#take(TRACE_MAGIC.length), TRACE_MAGIC) !== 0)
          throw new GspoError('BAD_TRACE', 'not a trace file: it does not begin with GYMTRACE')
        this.#hasMagic = true
        this.#wholeBytes = TRACE_MAGIC.length
      }
      const payload = this.#record()
      if (payload === null) break
      payloads.push(payload)
    }
    return payloads
  }

  #record(): Uint8Array | null {
    if (this.#held < LENGTH_BYTES) return null
    const head = this.#peek(LENGTH_BYTES)
    const length = new DataView(head.buffer, head.byteOffset, LENGTH_BYTES).getUint32(0, true)
    if (length > this.#maxRecordBytes) {
      this.#fault = `is ${length} bytes, limit ${this.#maxRecordBytes}`
      return null
    }
    const total = LENGTH_BYTES + length + LINK_BYTES
    if (this.#held < total) return null
    const bytes = this.#peek(total)
    const payload = bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length)
    const link = linkOf(this.#link, bytes.subarray(0, LENGTH_BYTES), payload)
    if (Buffer.compare(link, bytes.subarray(LENGTH_BYTES + length)) !== 0) {
      this.#fault = 'does not carry the link of what comes before it'
      return null
    }
    this.#take(total)
    this.#link = link
    this.#wholeBytes += total
    return payload
  }

  /** The next bytes, contiguous, without taking them. */
  #peek(length: number): Uint8Array {
    const [first] = this.#parts
    if (first !== undefined && first.length >= length) return first.subarray(0, length)
    const all = Buffer.concat(this.#parts)
    this.#parts = [all]
    return all.subarray(0, length)
  }

  #take(length: number): Uint8Array {
    const bytes = this.#peek(length)
    const [first = bytes, ...rest] = this.#parts
    this.#parts = first.length > length ? [first.subarray(length), ...rest] : rest
    this.#held -= length
    return bytes
  }
}
