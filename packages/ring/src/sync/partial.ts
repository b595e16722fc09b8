/** A state on its way: the bytes so far, who served them, and whether they are in the end what was wanted. */
import { createHash } from 'node:crypto'
import { RingError } from '../errors.ts'

/** Smaller pieces are put together in blocks of this size: a peer that sends single bytes must not cost an object each. */
const BLOCK_BYTES = 64 * 1024

/** What is wanted: the state after `round` with this SHA3-256 in hex. */
export interface WantedState {
  readonly round: number
  readonly hash: string
}

/** Grows as bytes come: a claimed length alone reserves no memory. */
export class PartialState {
  readonly wanted: WantedState
  /** whoever has served a byte or the length */
  readonly sources = new Set<string>()
  #parts: Uint8Array[] = []
  #block = new Uint8Array(0)
  #blockFill = 0
  #length = 0
  #total: number | null = null
  /** as bytes come: the hash of a gigabyte at its end would hold up everything else for seconds */
  readonly #hash = createHash('sha3-256')
  readonly #maxBytes: number

  constructor(wanted: WantedState, maxBytes: number) {
    this.wanted = wanted
    this.#maxBytes = maxBytes
  }

  /** Where the next source goes on. */
  get length(): number {
    return this.#length
  }

  /** Pieces of memory that hold the bytes. */
  get pieces(): number {
    return this.#parts.length + (this.#blockFill > 0 ? 1 : 0)
  }

  /** The length as announced, 0 before. */
  get total(): number {
    return this.#total ?? 0
  }

  get isComplete(): boolean {
    return this.#length === this.#total
  }

  /** Takes the length that a source announces. Throws RingError BAD_STATE over the limit or when others said otherwise. */
  announce(total: number, peer: string): void {
    if (total > this.#maxBytes) {
      throw new RingError('BAD_STATE', `state is ${total} bytes, limit ${this.#maxBytes}`, { peer })
    }
    if (this.#total !== null && this.#total !== total) {
      throw new RingError('BAD_STATE', `state is ${total} bytes here and ${this.#total} elsewhere`, { peer })
    }
    this.#total = total
    this.sources.add(peer)
  }

  /** Takes the next bytes. Throws RingError BAD_FRAME before the length is known or for none, BAD_STATE beyond it. */
  append(bytes: Uint8Array, peer: string): void {
    if (this.#total === null) {
      throw new RingError('BAD_FRAME', 'state bytes came before their length', { peer })
    }
    if (this.#length + bytes.byteLength > this.#total) {
      throw new RingError('BAD_STATE', `more than the announced ${this.#total} bytes came`, { peer })
    }
    if (bytes.byteLength === 0) throw new RingError('BAD_FRAME', 'an empty piece of state', { peer })
    this.#keep(bytes)
    this.#hash.update(bytes)
    this.#length += bytes.byteLength
    this.sources.add(peer)
  }

  #keep(bytes: Uint8Array): void {
    if (this.#blockFill + bytes.byteLength > this.#block.byteLength) {
      this.#endBlock()
      if (bytes.byteLength >= BLOCK_BYTES) {
        this.#parts.push(bytes)
        return
      }
      this.#block = new Uint8Array(BLOCK_BYTES)
    }
    this.#block.set(bytes, this.#blockFill)
    this.#blockFill += bytes.byteLength
  }

  #endBlock(): void {
    if (this.#blockFill > 0) this.#parts.push(this.#block.subarray(0, this.#blockFill))
    this.#block = new Uint8Array(0)
    this.#blockFill = 0
  }

  /** The whole, if its hash is the one wanted. Throws RingError BAD_STATE; the bytes are gone then. */
  verified(): Uint8Array {
    this.#endBlock()
    const bytes = new Uint8Array(this.#length)
    let at = 0
    for (const part of this.#parts) {
      bytes.set(part, at)
      at += part.byteLength
    }
    this.#parts = []
    const seen = this.#hash.digest('hex')
    if (seen === this.wanted.hash) return bytes
    throw new RingError(
      'BAD_STATE',
      `state of round ${this.wanted.round} hashes to ${seen}, the ring agreed on ${this.wanted.hash}`,
    )
  }
}
