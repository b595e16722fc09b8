/**
 * In which order the members of a view stand in the ring, from the round-trip times and rates they have measured to
 * each other. Every node computes; only the proposer's order counts, as a part of the view that is agreed. Pure and
 * deterministic.
 */
import { middle } from '../middle.ts'
import { shortTour, tourLength, type Cost } from './tour.ts'

/** What a peer has measured of its path to another. What it says is a claim, bounded in `path-table.ts`. */
export interface PathClaim {
  /** round-trip time */
  readonly ms: number
  /** what the path took in a round, in bytes per ms; null when no round of size went over it yet */
  readonly bytesPerMs: number | null
}

/** Claims by who makes them, then by whom they are about. */
export type PathTable = ReadonlyMap<string, ReadonlyMap<string, PathClaim>>

/** What an order is judged by besides the paths. */
export interface OrderOptions {
  /** bytes that one member sends in one move of a round; 0 while that is not known: then only time counts */
  readonly moveBytes: number
  /** a new order must be cheaper by this share */
  readonly leastGain?: number
}

/** An order, and how much cheaper it is than the members' present one: 0.2 is a fifth less. */
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
export function orderMembers(
  members: readonly string[],
  paths: PathTable,
  { moveBytes, leastGain = LEAST_GAIN }: OrderOptions,
): Ordered {
  const same = { members, gain: 0 }
  if (members.length <= 3) return same
  // By name, so that the same measurements give the same tour whatever the present order is.
  const sorted = [...members].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  const cost = costOf(sorted, paths, moveBytes)
  if (cost === null) return same
  const present = members.map((peer) => sorted.indexOf(peer))
  const tour = shortTour(sorted.length, cost)
  const before = tourLength(present, cost)
  const gain = before > 0 ? 1 - tourLength(tour, cost) / before : 0
  if (gain < leastGain) return same
  return { members: tour.map((k) => sorted[k] ?? ''), gain }
}

/**
 * Cost between members by index, in ms: what one move of a round takes over the path, half a round trip and the bytes
 * at its rate. Of what both ends claim the worse counts, so that one that lies can only make its own edges look longer.
 * A rate that nobody has measured counts as the median rate, a pair as the median pair. Null when fewer than half of
 * the pairs are known.
 */
function costOf(members: readonly string[], paths: PathTable, moveBytes: number): Cost | null {
  const n = members.length
  const pairs: {
    readonly at: readonly [number, number]
    readonly ms: number
    readonly rate: number | null
  }[] = []
  for (let i = 0; i < n; i += 1) {
    for (let j = i + 1; j < n; j += 1) {
      const [a, b] = [members[i] ?? '', members[j] ?? '']
      const claims = [paths.get(a)?.get(b), paths.get(b)?.get(a)].filter((claim) => claim !== undefined)
      if (claims.length === 0) continue
      const rates = claims.map(({ bytesPerMs }) => bytesPerMs).filter((rate) => rate !== null)
      const rate = rates.length === 0 ? null : Math.min(...rates)
      pairs.push({ at: [i, j], ms: Math.max(...claims.map(({ ms }) => ms)), rate })
    }
  }
  if (2 * pairs.length < (n * (n - 1)) / 2) return null
  const usualRate = middle(pairs.map(({ rate }) => rate).filter((rate) => rate !== null)) ?? Infinity
  const matrix = new Float64Array(n * n).fill(NaN)
  const known = pairs.map(({ at: [i, j], ms, rate }) => {
    const cost = ms / 2 + moveBytes / (rate ?? usualRate)
    matrix[i * n + j] = cost
    matrix[j * n + i] = cost
    return cost
  })
  const median = middle(known) ?? 0
  return (from, to) => {
    const cost = matrix[from * n + to] ?? NaN
    return Number.isNaN(cost) ? median : Math.min(cost, MOST_MEDIANS * median)
  }
}
