/**
 * A short round trip over a matrix of costs: exact for few points (Held & Karp 1962), nearest neighbour bettered by
 * 2-opt and Or-opt moves for many (Johnson & McGeoch 1997). Pure and deterministic: ties go to the lower index.
 */

/** Cost of going from one point to another; symmetric, finite, not negative. */
export type Cost = (from: number, to: number) => number

/** Up to here the best tour is computed exactly: 9 points are 2^8 * 8 sums, under a millisecond. */
export const EXACT_POINTS = 9

/** Passes over a long tour: the first few bring nearly all of the gain, and the event loop waits meanwhile. */
const MAX_PASSES = 8

/** Up to here several starts are tried; 64 points take 10 ms each. */
const MANY_POINTS = 64

/** A gain below this share of the tour is rounding, not an improvement. */
const EPSILON = 1e-9

/** The order of a short closed tour over points 0 to `points - 1`; begins with 0, in the direction of the lower neighbour. */
export function shortTour(points: number, cost: Cost): number[] {
  if (points <= 3) return Array.from({ length: points }, (_, k) => k)
  return canonical(points <= EXACT_POINTS ? exactTour(points, cost) : improvedTour(points, cost))
}

/** The length of a closed tour. */
export function tourLength(tour: readonly number[], cost: Cost): number {
  return tour.reduce((sum, point, k) => sum + cost(point, at(tour, (k + 1) % tour.length)), 0)
}

/** Held-Karp over subsets of the points 1..n-1. */
function exactTour(points: number, cost: Cost): number[] {
  const rest = points - 1
  const subsets = 1 << rest
  const best = new Float64Array(subsets * rest).fill(Infinity)
  const before = new Int8Array(subsets * rest).fill(-1)
  for (let k = 0; k < rest; k += 1) best[(1 << k) * rest + k] = cost(0, k + 1)
  for (let subset = 1; subset < subsets; subset += 1) {
    for (let last = 0; last < rest; last += 1) {
      if ((subset & (1 << last)) === 0) continue
      const here = best[subset * rest + last] ?? Infinity
      for (let next = 0; next < rest; next += 1) {
        if ((subset & (1 << next)) !== 0) continue
        const slot = (subset | (1 << next)) * rest + next
        const length = here + cost(last + 1, next + 1)
        if (length < (best[slot] ?? Infinity)) {
          best[slot] = length
          before[slot] = last
        }
      }
    }
  }
  const all = subsets - 1
  let last = 0
  const closed = (k: number): number => (best[all * rest + k] ?? Infinity) + cost(k + 1, 0)
  for (let k = 1; k < rest; k += 1) if (closed(k) < closed(last)) last = k
  const tour: number[] = []
  for (let subset = all; subset !== 0;) {
    tour.push(last + 1)
    const previous = before[subset * rest + last] ?? -1
    subset ^= 1 << last
    last = previous
  }
  return [0, ...tour.reverse()]
}

/** The best of nearest-neighbour tours from a few starts, each improved until no move helps. */
function improvedTour(points: number, cost: Cost): number[] {
  const starts = points > MANY_POINTS ? [0] : [0, Math.floor(points / 3), Math.floor((2 * points) / 3)]
  let best: number[] = []
  let bestLength = Infinity
  for (const start of starts) {
    const tour = improve(nearestNeighbour(points, start, cost), cost)
    const length = tourLength(tour, cost)
    if (length < bestLength * (1 - EPSILON)) {
      best = tour
      bestLength = length
    }
  }
  return best
}

function nearestNeighbour(points: number, start: number, cost: Cost): number[] {
  const left = new Set(Array.from({ length: points }, (_, k) => k))
  const tour = [start]
  left.delete(start)
  for (let here = start; left.size > 0;) {
    let nearest = -1
    for (const point of left) if (nearest < 0 || cost(here, point) < cost(here, nearest)) nearest = point
    tour.push(nearest)
    left.delete(nearest)
    here = nearest
  }
  return tour
}

/** Reverses stretches (2-opt) and moves stretches of one to three points (Or-opt) while that shortens the tour. */
function improve(start: readonly number[], cost: Cost): number[] {
  let tour = [...start]
  const least = EPSILON * (tourLength(tour, cost) + Number.MIN_VALUE)
  for (let pass = 0; pass < MAX_PASSES; pass += 1) {
    const reversed = reverseStretches(tour, cost, least)
    const moved = moveStretches(tour, cost, least)
    tour = moved.tour
    if (!reversed && !moved.changed) break
  }
  return tour
}

/** 2-opt, in place: replaces edges a-b and c-d by a-c and b-d. */
function reverseStretches(tour: number[], cost: Cost, least: number): boolean {
  const n = tour.length
  let changed = false
  for (let i = 0; i < n - 1; i += 1) {
    for (let j = i + 2; j < n; j += 1) {
      if (i === 0 && j === n - 1) continue
      const [a, b, c, d] = [at(tour, i), at(tour, i + 1), at(tour, j), at(tour, (j + 1) % n)]
      if (cost(a, c) + cost(b, d) >= cost(a, b) + cost(c, d) - least) continue
      for (let low = i + 1, high = j; low < high; low += 1, high -= 1) {
        const swap = at(tour, low)
        tour[low] = at(tour, high)
        tour[high] = swap
      }
      changed = true
    }
  }
  return changed
}

/** Or-opt: takes up to three neighbours out and puts them, either way round, where they cost least. */
function moveStretches(
  start: readonly number[],
  cost: Cost,
  least: number,
): { tour: number[]; changed: boolean } {
  let tour = [...start]
  let changed = false
  for (let size = 1; size <= 3; size += 1) {
    for (let i = 0; i < tour.length && tour.length > size + 2; i += 1) {
      const turned = [...tour.slice(i), ...tour.slice(0, i)]
      const stretch = turned.slice(0, size)
      const rest = turned.slice(size)
      const [first, last] = [at(stretch, 0), at(stretch, size - 1)]
      const [next, previous] = [at(rest, 0), at(rest, rest.length - 1)]
      const saved = cost(previous, first) + cost(last, next) - cost(previous, next)
      let best = { gain: least, place: -1, flip: false }
      for (let place = 0; place < rest.length - 1; place += 1) {
        const [left, right] = [at(rest, place), at(rest, place + 1)]
        const straight = saved - (cost(left, first) + cost(last, right) - cost(left, right))
        const flipped = saved - (cost(left, last) + cost(first, right) - cost(left, right))
        if (straight > best.gain) best = { gain: straight, place, flip: false }
        if (flipped > best.gain) best = { gain: flipped, place, flip: true }
      }
      if (best.place < 0) continue
      const piece = best.flip ? stretch.reverse() : stretch
      tour = [...rest.slice(0, best.place + 1), ...piece, ...rest.slice(best.place + 1)]
      changed = true
    }
  }
  return { tour, changed }
}

/** One of the 2n ways to write a closed tour: from point 0 on, towards the lower of its two neighbours. */
function canonical(tour: readonly number[]): number[] {
  const zero = tour.indexOf(0)
  const turned = [...tour.slice(zero), ...tour.slice(0, zero)]
  const [, second] = turned
  const last = turned.at(-1)
  if (second === undefined || last === undefined || second <= last) return turned
  return [0, ...turned.slice(1).reverse()]
}

function at(tour: readonly number[], k: number): number {
  const point = tour[k]
  if (point === undefined) throw new RangeError(`tour of ${tour.length} has no place ${k}`)
  return point
}
