/** What all members claim about their paths, kept small: the newest row of each peer, rounded and clamped. Pure. */
import type { PathTable } from './order.ts'

/** Paths that one row may name: a view has at most this many members. */
export const MAX_ROW = 256

/** Rows kept; those of peers heard longest ago go first. */
const MAX_ROWS = 256

/** Round-trip times beyond this say nothing more about the order: a minute is as far as ten seconds. */
export const MAX_RTT_MS = 10_000

/** A row changes only when a path is off by more than this share: what is measured anew is never quite the same. */
const SAME_SHARE = 0.2

/** Rows by peer. */
export class Paths {
  readonly #rows = new Map<string, ReadonlyMap<string, number>>()

  get table(): PathTable {
    return this.#rows
  }

  /** Takes a peer's row. Returns whether it says something new. */
  note(peer: string, row: readonly (readonly [peer: string, ms: number])[]): boolean {
    const next = new Map(
      row
        .slice(0, MAX_ROW)
        .map(([to, ms]) => [to, Math.min(MAX_RTT_MS, Math.max(0, Math.round(10 * ms) / 10))]),
    )
    const before = this.#rows.get(peer)
    this.#rows.delete(peer)
    this.#rows.set(peer, next)
    const [oldest] = this.#rows.keys()
    if (oldest !== undefined && this.#rows.size > MAX_ROWS) this.#rows.delete(oldest)
    return before === undefined || differs(before, next)
  }
}

/** Whether two rows name other peers, or a path in them is longer or shorter by more than a fifth (and 1 ms). */
export function differs(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean {
  if (a.size !== b.size) return true
  for (const [peer, ms] of a) {
    const other = b.get(peer)
    if (other === undefined || Math.abs(ms - other) > Math.max(1, SAME_SHARE * Math.max(ms, other)))
      return true
  }
  return false
}
