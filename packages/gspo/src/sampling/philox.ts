/**
 * Philox4x32-10, the counter-based generator of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC'11).
 * A draw is a pure function of (seed, counter), so a sample never depends on which rows shared its batch.
 */

const MULTIPLIER_0 = 0xd2511f53
const MULTIPLIER_1 = 0xcd9e8d57
const WEYL_0 = 0x9e3779b9
const WEYL_1 = 0xbb67ae85
const ROUNDS = 10

/** What a draw is for: streams never share a counter, so adding draws to one leaves the others alone. */
export const STREAM = { sample: 1, shuffle: 2, minibatch: 3, evaluate: 4, weights: 5 } as const

/** One of the named purposes of a draw. */
export type StreamId = (typeof STREAM)[keyof typeof STREAM]

/** High 32 bits of the product of two unsigned 32-bit numbers, by 16-bit halves (exact in doubles). */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff
  const aHigh = a >>> 16
  const bLow = b & 0xffff
  const bHigh = b >>> 16
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 0x10000)
  const cross = aLow * bHigh + (middle % 0x10000)
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000)) >>> 0
}

/** Four uniform 32-bit words for a 128-bit counter (four words) under a 64-bit key (two words); writes into `out`. */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
  out: Uint32Array,
): void {
  let c0 = counter[0] >>> 0
  let c1 = counter[1] >>> 0
  let c2 = counter[2] >>> 0
  let c3 = counter[3] >>> 0
  let k0 = key[0] >>> 0
  let k1 = key[1] >>> 0
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = mulHigh(MULTIPLIER_0, c0)
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0
    const high1 = mulHigh(MULTIPLIER_1, c2)
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0
    c0 = (high1 ^ c1 ^ k0) >>> 0
    c1 = low1
    c2 = (high0 ^ c3 ^ k1) >>> 0
    c3 = low0
    k0 = (k0 + WEYL_0) >>> 0
    k1 = (k1 + WEYL_1) >>> 0
  }
  out[0] = c0
  out[1] = c1
  out[2] = c2
  out[3] = c3
}

const scratch = new Uint32Array(4)

/**
 * A uniform double in [0, 1) with 53 random bits, a pure function of its arguments.
 * @param seed   the run's seed, an integer from 0 to 2^53 - 1
 * @param stream what the draw is for
 * @param a      first coordinate, such as the data position (0 to 2^32 - 1)
 * @param b      second coordinate, such as the completion's place in its group (0 to 2^24 - 1)
 * @param c      third coordinate, such as the token's place in the completion (0 to 2^32 - 1)
 */
export function uniform(seed: number, stream: StreamId, a: number, b: number, c: number): number {
  const counter: [number, number, number, number] = [c, b * 256 + stream, a, 0]
  philox4x32(counter, [seed % 0x100000000, Math.floor(seed / 0x100000000)], scratch)
  const [high = 0, low = 0] = scratch
  return ((high >>> 5) * 67108864 + (low >>> 6)) / 9007199254740992
}

/** A permutation of 0..length-1 by Fisher and Yates, a pure function of (seed, stream, a). */
export function permutation(length: number, seed: number, stream: StreamId, a: number): Int32Array {
  const order = Int32Array.from({ length }, (_, index) => index)
  for (let last = length - 1; last > 0; last--) {
    const other = Math.floor(uniform(seed, stream, a, 0, last) * (last + 1))
    const kept = order[last] ?? 0
    order[last] = order[other] ?? 0
    order[other] = kept
  }
  return order
}
