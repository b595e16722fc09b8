/**
 * In which order the members of a view stand in the ring, from the round-trip times they have measured to each other.
 * Every node computes; only the proposer's order counts, as a part of the view that is agreed. Pure and deterministic.
 */
import { shortTour, tourLength, type Cost } from './tour.ts'

/** Round-trip times in ms that a peer has measured to others. What a peer says is a claim, bounded in `path-table.ts`. */
export type PathTable = ReadonlyMap<string, ReadonlyMap<string, number>>

/** An order, and how much shorter its round trip is than the members' present one: 0.2 is a fifth less. */
export interface Ordered {
  readonly members: readonly string[]
  readonly gain: number
}

/** A new order must be shorter by this share, or the members stay as they are: measurements wander by 10 %. */
export const LEAST_GAIN = 0.15

/** A path counts at most as this many median paths: a claim of minutes must not drown what all others have measured. */
const MOST_MEDIANS = 4

/**
 * A good order of `members`, whose present order is how they are given, as far as `paths` tells. Without measurements
 * of most pairs, or without a gain of at least `leastGain`, the given order comes back.
 */
export function orderMembers(members: readonly string[], paths: PathTable, leastGain = LEAST_GAIN): Ordered {
  const same = { members, gain: 0 }
  if (members.length <= 3) return same
  // By name, so that the same measurements give the same tour whatever the present order is.
  const sorted = [...members].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  const cost = costOf(sorted, paths)
  if (cost === null) return same
  const present = members.map((peer) => sorted.indexOf(peer))
  const tour = shortTour(sorted.length, cost)
  const before = tourLength(present, cost)
  const gain = before > 0 ? 1 - tourLength(tour, cost) / before : 0
  if (gain < leastGain) return same
  return { members: tour.map((k) => sorted[k] ?? ''), gain }
}

/**
 * Cost between members by index: the larger of what both ends claim, so that one that lies can only make its own edges
 * look longer. A pair that nobody has measured counts as the median pair. Null when fewer than half are known.
 */
function costOf(members: readonly string[], paths: PathTable): Cost | null {
  const n = members.length
  const matrix = new Float64Array(n * n).fill(NaN)
  const known: number[] = []
  for (let i = 0; i < n; i += 1) {
    for (let j = i + 1; j < n; j += 1) {
      const [a, b] = [members[i] ?? '', members[j] ?? '']
      const claims = [paths.get(a)?.get(b), paths.get(b)?.get(a)].filter((ms) => ms !== undefined)
      if (claims.length === 0) continue
      const ms = Math.max(...claims)
      matrix[i * n + j] = ms
      matrix[j * n + i] = ms
      known.push(ms)
    }
  }
  if (2 * known.length < (n * (n - 1)) / 2) return null
  known.sort((a, b) => a - b)
  const median = known[Math.floor(known.length / 2)] ?? 0
  return (from, to) => {
    const ms = matrix[from * n + to] ?? NaN
    return Number.isNaN(ms) ? median : Math.min(ms, MOST_MEDIANS * median)
  }
}
