/**
 * When memory that passes through Noise is free. libp2p leaves every piece of a stream to the collector several times
 * over (as read, in one piece, decrypted, sealed), and V8 answers with a full collection for some 30 MB of them, which
 * was most of a stream's time. Here it is given back as soon as its bytes have passed, but never before the call that
 * passes them is over: until then libp2p counts by the lengths of views of it.
 */
import { giveBack } from '@gym-node/wire'

/** Before every Noise message on the wire comes its length. */
const LENGTH_BYTES = 2

/** Gives back what a connection was read into: each buffer once all of it was ciphertext and has been decrypted. */
export class ReadBuffers {
  #buffer: ArrayBufferLike | null = null
  #next = 0

  /** Says that `part` has been decrypted. Parts must come in the order in which they were read. */
  decrypted({ buffer, byteOffset, byteLength }: Uint8Array): void {
    if (buffer !== this.#buffer) {
      this.#buffer = buffer
      this.#next = 0
    }
    // Between two messages lies the second one's length, read by now. A larger gap holds what somebody may yet read.
    const gap = byteOffset - this.#next
    this.#next = gap >= 0 && gap <= LENGTH_BYTES ? byteOffset + byteLength : Infinity
    if (this.#next !== buffer.byteLength) return
    this.#buffer = null
    queueMicrotask(() => giveBack(new Uint8Array(buffer)))
  }
}

interface Watch {
  bytesLeft: number
  readonly done: () => void
}

const watched = new WeakMap<ArrayBufferLike, Watch>()

/**
 * Calls `done` once every byte of `bytes` has been encrypted: libp2p has no use for it any more. Nothing else may lie in
 * the same buffer. Where the stream ends before, it is never called.
 */
export function whenEncrypted(bytes: Uint8Array, done: () => void): void {
  watched.set(bytes.buffer, { bytesLeft: bytes.byteLength, done })
}

/** Says that `part` has been encrypted. */
export function encrypted(part: Uint8Array): void {
  const watch = watched.get(part.buffer)
  if (watch === undefined) return
  watch.bytesLeft -= part.byteLength
  if (watch.bytesLeft > 0) return
  watched.delete(part.buffer)
  queueMicrotask(watch.done)
}
