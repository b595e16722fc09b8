/** Small binary writer and reader for traces: varints, tagged numbers, raw bytes. The reader never trusts a count. */
import { GspoError } from '../errors.ts'

/** Tags of `number`: the usual rewards take one byte. */
const ZERO = 0
const ONE = 1
const NOT_A_NUMBER = 2
const SINGLE = 3
const DOUBLE = 4

/** Appends values to a growing buffer. */
export class ByteWriter {
  #bytes = new Uint8Array(1024)
  #view = new DataView(this.#bytes.buffer)
  #length = 0

  /** One byte. */
  byte(value: number): void {
    this.#reserve(1)
    this.#bytes[this.#length++] = value
  }

  /** An integer from 0 to 2^53 - 1, seven bits a byte, the least significant first (LEB128). */
  varint(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0)
      throw new GspoError('BAD_TRACE', `cannot write ${value}: expected a count`)
    let rest = value
    while (rest >= 128) {
      this.byte((rest % 128) + 128)
      rest = Math.floor(rest / 128)
    }
    this.byte(rest)
  }

  /** A double in 1, 5 or 9 bytes, exactly. */
  number(value: number): void {
    if (Object.is(value, 0)) return this.byte(ZERO)
    if (value === 1) return this.byte(ONE)
    if (Number.isNaN(value)) return this.byte(NOT_A_NUMBER)
    const single = Math.fround(value) === value
    this.byte(single ? SINGLE : DOUBLE)
    this.#reserve(8)
    if (single) this.#view.setFloat32(this.#length, value, true)
    else this.#view.setFloat64(this.#length, value, true)
    this.#length += single ? 4 : 8
  }

  /** Raw bytes, without a count. */
  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length)
    this.#bytes.set(bytes, this.#length)
    this.#length += bytes.length
  }

  /** A copy of what was written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length)
  }

  #reserve(extra: number): void {
    const needed = this.#length + extra
    if (needed <= this.#bytes.length) return
    const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2))
    grown.set(this.#bytes)
    this.#bytes = grown
    this.#view = new DataView(grown.buffer)
  }
}

/** Reads what ByteWriter wrote; throws GspoError BAD_TRACE past the end or on an impossible value. */
export class ByteReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #position = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** Bytes not yet read. */
  get remaining(): number {
    return this.#bytes.length - this.#position
  }

  byte(): number {
    const at = this.#take(1)
    return this.#bytes[at] ?? 0
  }

  varint(): number {
    let value = 0
    let scale = 1
    for (let count = 0; count < 8; count++) {
      const next = this.byte()
      value += (next % 128) * scale
      if (next < 128) {
        if (!Number.isSafeInteger(value)) break
        return value
      }
      scale *= 128
    }
    throw new GspoError('BAD_TRACE', 'trace holds a count above 2^53 - 1')
  }

  /** A count of items that take at least `itemBytes` each, checked against what is left before anything is allocated. */
  count(itemBytes: number, what: string): number {
    const count = this.varint()
    if (count * itemBytes > this.remaining)
      throw new GspoError('BAD_TRACE', `trace says ${count} ${what}, but only ${this.remaining} bytes follow`)
    return count
  }

  number(): number {
    const tag = this.byte()
    switch (tag) {
      case ZERO:
        return 0
      case ONE:
        return 1
      case NOT_A_NUMBER:
        return NaN
      case SINGLE:
        return this.#view.getFloat32(this.#take(4), true)
      case DOUBLE:
        return this.#view.getFloat64(this.#take(8), true)
      default:
        throw new GspoError('BAD_TRACE', `trace has number tag ${tag}, expected 0 to 4`)
    }
  }

  #take(bytes: number): number {
    if (bytes > this.remaining)
      throw new GspoError(
        'BAD_TRACE',
        `trace ends inside a record: ${bytes} bytes expected, ${this.remaining} left`,
      )
    const start = this.#position
    this.#position += bytes
    return start
  }
}
