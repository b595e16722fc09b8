/** What all members claim about their paths, kept small: the newest row of each peer, rounded and clamped. Pure. */
import type { PathClaim, PathTable } from './order.ts'

/** Paths that one row may name: a view has at most this many members. */
export const MAX_ROW = 256

/** Rows kept; of peers that are not in the ring those heard longest ago go first. */
const MAX_ROWS = 256

/** Round-trip times beyond this say nothing more about the order: a minute is as far as ten seconds. */
export const MAX_RTT_MS = 10_000

/** Rates beyond this, 8 Gbit/s, count as this: such a path holds nobody up. */
export const MAX_BYTES_PER_MS = 1_000_000

/** A row changes only when a path is off by more than this share: what is measured anew is never quite the same. */
const SAME_SHARE = 0.2

/** One path as it is told: to whom, round-trip time in ms, bytes per ms or null. */
export type PathEntry = readonly [peer: string, ms: number, bytesPerMs: number | null]

/** Rows by peer. */
export class Paths {
  readonly #rows = new Map<string, ReadonlyMap<string, PathClaim>>()
  readonly #isMember: (peer: string) => boolean

  /** `isMember`: peers whose rows strangers cannot push out; a row is told anew only when it changes. */
  constructor(isMember: (peer: string) => boolean = () => false) {
    this.#isMember = isMember
  }

  get table(): PathTable {
    return this.#rows
  }

  /** Takes a peer's row. Returns whether it says something new. */
  note(peer: string, row: readonly PathEntry[]): boolean {
    const next = new Map(
      row.slice(0, MAX_ROW).map(([to, ms, bytesPerMs]) => [to, bounded(ms, bytesPerMs)] as const),
    )
    const before = this.#rows.get(peer)
    this.#rows.delete(peer)
    this.#rows.set(peer, next)
    if (this.#rows.size > MAX_ROWS) {
      const oldest = [...this.#rows.keys()].find((known) => !this.#isMember(known))
      if (oldest !== undefined) this.#rows.delete(oldest)
    }
    return before === undefined || differs(before, next)
  }
}

/** Whether two rows name other peers, or a time or rate in them is off by more than a fifth (and 1 ms). */
export function differs(a: ReadonlyMap<string, PathClaim>, b: ReadonlyMap<string, PathClaim>): boolean {
  if (a.size !== b.size) return true
  for (const [peer, one] of a) {
    const other = b.get(peer)
    if (other === undefined) return true
    if (Math.abs(one.ms - other.ms) > Math.max(1, SAME_SHARE * Math.max(one.ms, other.ms))) return true
    const [x, y] = [one.bytesPerMs, other.bytesPerMs]
    if (x === null || y === null ? x !== y : Math.abs(x - y) > SAME_SHARE * Math.max(x, y)) return true
  }
  return false
}

function bounded(ms: number, bytesPerMs: number | null): PathClaim {
  return {
    ms: Math.min(MAX_RTT_MS, Math.max(0, Math.round(10 * ms) / 10)),
    bytesPerMs: bytesPerMs === null ? null : Math.min(MAX_BYTES_PER_MS, Math.max(1, Math.round(bytesPerMs))),
  }
}
