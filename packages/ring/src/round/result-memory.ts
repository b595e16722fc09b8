/**
 * Memory for results, used again once its owner has handed it back. A fresh vector costs the kernel more than the round
 * does (64 MiB are 16,384 pages to clear), so one spare is kept.
 */

/** Hands out vectors of any length; keeps at most one that came back. */
export class ResultMemory {
  #spare: ArrayBuffer | null = null

  /** A vector whose content means nothing. */
  take(length: number): Float32Array<ArrayBuffer> {
    const spare = this.#spare
    this.#spare = null
    if (spare !== null && spare.byteLength === length * 4) return new Float32Array(spare)
    return new Float32Array(length)
  }

  /** Takes a vector back. Its views end here: whoever still holds one reads nothing instead of another round. */
  giveBack(vector: Float32Array): void {
    const { buffer } = vector
    // Only whole buffers of our making; one that came back already is empty.
    if (!(buffer instanceof ArrayBuffer) || buffer.detached || buffer.byteLength !== vector.byteLength) return
    this.#spare = buffer.transfer()
  }
}
