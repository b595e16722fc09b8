/** Error feedback between rounds: what rounding for the wire lost here, in bf16, kept only when its round commits. */

/** The residual of the last committed round, and memory for the one that a running round makes. */
export class Residuals {
  #current: Uint16Array | null = null
  #spare: Uint16Array | null = null

  /** What the next round adds to a vector of `length`; null when there is nothing that fits. */
  current(length: number): Uint16Array | null {
    return this.#current?.length === length ? this.#current : null
  }

  /** Memory for the residual of a round; its content means nothing. */
  take(length: number): Uint16Array {
    const spare = this.#spare
    this.#spare = null
    return spare?.length === length ? spare : new Uint16Array(length)
  }

  /** Takes memory back whose round was not committed. */
  giveBack(residual: Uint16Array): void {
    this.#spare = residual
  }

  /** Makes it the current one. */
  commit(residual: Uint16Array): void {
    this.#spare = this.#current
    this.#current = residual
  }
}
