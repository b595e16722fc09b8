/** How much of something may be spent: refilled continuously, so much at once at most. Pure: the caller brings the time. */
export class Allowance {
  readonly #perMs: number
  readonly #most: number
  #left: number
  #at: number | null = null

  /** Full at first. */
  constructor(perSecond: number, most: number) {
    this.#perMs = perSecond / 1000
    this.#most = most
    this.#left = most
  }

  /** Spends `amount` at `now` (ms); false, and nothing is spent, when so much is not left. */
  spend(amount: number, now: number): boolean {
    this.#left = Math.min(this.#most, this.#left + (now - (this.#at ?? now)) * this.#perMs)
    this.#at = now
    if (this.#left < amount) return false
    this.#left -= amount
    return true
  }
}
