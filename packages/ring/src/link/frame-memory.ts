/** Memory of frames on their way out, used again while it is in cache. */

/** One is filled while the kernel still empties the other. */
const MAX_SPARE = 2

/** Smaller frames are not worth keeping. */
const MIN_KEPT_BYTES = 4096

/** Exactly as long as their frames, so that a carrier can tell by a buffer when all of it is written. */
export class FrameMemory {
  #spare: Uint8Array[] = []

  /** Memory for a frame of `bytes`, whose content means nothing. */
  take(bytes: number): Uint8Array {
    const index = this.#spare.findIndex((memory) => memory.byteLength === bytes)
    return index === -1 ? Buffer.allocUnsafeSlow(bytes) : this.#spare.splice(index, 1)[0]
  }

  /** Takes it back once nobody reads it any more. */
  giveBack(memory: Uint8Array): void {
    if (memory.byteLength < MIN_KEPT_BYTES) return
    this.#spare.push(memory)
    if (this.#spare.length > MAX_SPARE) this.#spare.shift()
  }
}
