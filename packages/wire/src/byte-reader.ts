/** Reads exact numbers of bytes from chunks of any size, showing each byte once to an observer (the hashes). */
import { WireError } from './errors.ts'

/** Chunks of a file or stream, in order. */
export type ByteSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>

/** A pull parser's input. Holds at most one chunk beyond what was asked for, so a source's back-pressure is kept. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array> | Iterator<Uint8Array>
  #rest: Uint8Array = new Uint8Array(0)
  #offset = 0
  /** Is shown every byte that is read from now on, in order; what it answers is awaited. */
  observer: ((bytes: Uint8Array) => Promise<void> | undefined) | null = null

  constructor(source: ByteSource) {
    this.#chunks = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]()
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#offset
  }

  /**
   * The next `length` bytes: a view when one chunk holds them, else a copy made once all have arrived, so that a false
   * length costs no more memory than the bytes that came. Throws `TRUNCATED` naming `what`.
   */
  async read(length: number, what: string): Promise<Uint8Array> {
    const parts: Uint8Array[] = []
    let missing = length
    while (missing > 0) {
      if (this.#rest.length === 0 && !(await this.#advance())) {
        throw new WireError(
          'TRUNCATED',
          `the file ends ${missing} bytes before the end of ${what} (${length} bytes)`,
        )
      }
      const part = this.#rest.subarray(0, missing)
      this.#rest = this.#rest.subarray(part.length)
      this.#offset += part.length
      missing -= part.length
      const wait = this.observer?.(part)
      if (wait !== undefined) await wait
      parts.push(part)
    }
    const [only] = parts
    return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts)
  }

  /** Whether the source has no byte left. */
  async isAtEnd(): Promise<boolean> {
    return this.#rest.length === 0 && !(await this.#advance())
  }

  /** Tells the source that no more will be read. */
  async close(): Promise<void> {
    await this.#chunks.return?.()
  }

  /** Takes chunks until one is not empty; false at the end. */
  async #advance(): Promise<boolean> {
    for (;;) {
      const next = await this.#chunks.next()
      if (next.done === true) return false
      if (next.value.length > 0) {
        this.#rest = next.value
        return true
      }
    }
  }
}
