/**
 * What is told of refusals. Each is counted, and the first ones of a kind are told one by one; a peer that breaks rules
 * a thousand times a second must not fill the log, the history and the page of its victim.
 */
import { Allowance } from './net/allowance.ts'
import type { RingError, RingErrorCode } from './errors.ts'

/** Told at once of each kind, and how many a second after that. */
export const REFUSALS_AT_ONCE = 20
export const REFUSALS_PER_SECOND = 0.2

/** Counts by code since start. */
export class Refusals {
  readonly counts: Record<string, number> = {}
  readonly #kinds = new Map<RingErrorCode, { readonly allowance: Allowance; heldBack: number }>()

  /**
   * Counts an error at `now` (ms). Returns null when it is not to be told, else how many of its kind were not told
   * since the last one that was. What no peer caused is always told.
   */
  note({ code, peer }: RingError, now: number): number | null {
    this.counts[code] = (this.counts[code] ?? 0) + 1
    if (peer === undefined) return 0
    let kind = this.#kinds.get(code)
    if (kind === undefined) {
      kind = { allowance: new Allowance(REFUSALS_PER_SECOND, REFUSALS_AT_ONCE), heldBack: 0 }
      this.#kinds.set(code, kind)
    }
    if (!kind.allowance.spend(1, now)) {
      kind.heldBack += 1
      return null
    }
    const { heldBack } = kind
    kind.heldBack = 0
    return heldBack
  }
}
