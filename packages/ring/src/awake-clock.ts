/**
 * Time that passes only while this process runs: a process that was stopped, whose machine slept, or that hashed a large
 * state, has not listened meanwhile, and must not take its own standing still for the silence of all others.
 */
export class AwakeClock {
  readonly #mostMs: number
  readonly #clock: () => number
  #last: number
  #lost = 0

  /** Asked again after more than `mostMs`, it has stood still for the rest. `clock`: ms that never go backwards. */
  constructor(mostMs: number, clock = (): number => performance.now()) {
    this.#mostMs = mostMs
    this.#clock = clock
    this.#last = clock()
  }

  /** The time now in ms; to be asked far more often than every `mostMs`. */
  now(): number {
    const now = this.#clock()
    this.#lost += Math.max(0, now - this.#last - this.#mostMs)
    this.#last = now
    return now - this.#lost
  }
}
