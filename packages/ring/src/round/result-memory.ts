/**
 * Memory for results, used again once its owner has handed it back. A fresh vector costs the kernel more than the round
 * does (64 MiB are 16,384 pages to clear), so one spare is kept.
 */

/** Hands out vectors of any length; keeps at most one that came back. */
export class ResultMemory {
  #spare: Float32Array | null = null

  /** A vector whose content means nothing. */
  take(length: number): Float32Array {
    const spare = this.#spare
    this.#spare = null
    return spare?.length === length ? spare : new Float32Array(length)
  }

  /**
   * Takes a vector back that `take` gave, once. Its buffer is not detached, which would be safer: V8 counts a detached
   * and reattached buffer as new memory and answers with a full collection every round, a tenth of the round's time.
   */
  giveBack(vector: Float32Array): void {
    this.#spare = vector
  }
}
