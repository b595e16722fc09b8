/**
 * The gated delta rule (arXiv 2412.06464) over chunks of tokens: inside a chunk all tokens at once, as products of
 * matrices; from chunk to chunk a state per head. Pure: it appends operations to a graph.
 */
import { mulDims, subDims, type Dim } from '../graph/dims.ts'
import type { GraphBuilder } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'

/** Most tokens of a chunk: work inside grows with its length, the number of sequential steps falls. */
export const CHUNK_TOKENS = 64

/** Halvings that take a chunk of `CHUNK_TOKENS` apart to single tokens. */
const LEVELS = Math.log2(CHUNK_TOKENS)

/** What softplus and exp drown in: decays of pairs that do not see each other become exactly 0. */
const UNSEEN = -1e30

/**
 * Inputs of N = rows * keyHeads heads, each with `share` heads of values, in n chunks of K tokens. Keys and queries
 * have length 1; `logDecay` is not above 0, `rate` (beta) lies in 0 to 1.
 */
export interface DeltaInputs {
  /** [N, 1, n, K, keySize] */
  readonly queries: Tensor
  readonly keys: Tensor
  /** [N, share, n, K, valueSize] */
  readonly values: Tensor
  /** [N, share, n, K, 1] */
  readonly rate: Tensor
  readonly logDecay: Tensor
}

/**
 * How the tokens of a chunk see one another, [K, K]: for query i and key j the highest bit in which i and j differ
 * where j < i, -1 where j = i, -2 where j > i. See `chunkLevels`.
 */
export type Levels = Tensor

/** Values of the levels input for chunks of `length` tokens, row-major. */
export function chunkLevels(length: number): Float32Array {
  return Float32Array.from({ length: length * length }, (_, at) => {
    const [i, j] = [Math.floor(at / length), at % length]
    if (j >= i) return j === i ? -1 : -2
    return 31 - Math.clz32(i ^ j)
  })
}

/**
 * What the heads read, [N, share, n, K, valueSize], and the state after the last token, [N, share, keySize,
 * valueSize]. A token first decays the state, then replaces `rate` of what its key finds there by its value, then
 * reads with its query / sqrt(keySize).
 */
export function deltaRule(
  g: GraphBuilder,
  inputs: DeltaInputs,
  state: Tensor,
  levels: Levels,
): { output: Tensor; state: Tensor } {
  const { queries, keys, values, rate, logDecay } = inputs
  const [, , chunks, length, keySize] = keys.shape as [Dim, Dim, number, Dim, number]
  const alpha = 1 / Math.sqrt(keySize)
  const isSeen = g.cast(g.binary('less', g.constant(-1.5), levels), 'f32')
  const isEarlier = g.cast(g.binary('less', g.constant(-0.5), levels), 'f32')

  // Decays since the chunk's beginning, as logarithms: a sum over the tokens up to and with each.
  const flat = g.reshape(logDecay, [mulDims(...logDecay.shape.slice(0, 3)), length])
  const sums = g.matmul(flat, isSeen, { transB: true })
  const sinceStart = g.reshape(sums, logDecay.shape)
  const asRow = g.reshape(sums, [...logDecay.shape.slice(0, 3), 1, length])
  const penalty = g.mul(g.sub(g.constant(1), isSeen), g.constant(UNSEEN))
  const between = g.unary('exp', g.add(g.sub(sinceStart, asRow), penalty))
  const fromStart = g.unary('exp', sinceStart)
  const whole = g.slice(sinceStart, 3, subDims(length, 1), length)
  const toEnd = g.unary('exp', g.sub(whole, sinceStart))

  // Tokens of a chunk correct one another: a triangular system whose inverse gives all corrections at once.
  const overlap = g.mul(g.matmul(keys, keys, { transB: true }), between)
  const solve = unitLowerInverse(g, g.mul(g.mul(overlap, rate), isEarlier), levels)
  const written = g.matmul(solve, g.mul(values, rate))
  const erased = g.matmul(solve, g.mul(keys, g.mul(rate, fromStart)))
  const weights = g.mul(g.matmul(queries, keys, { transB: true, alpha }), between)
  const reads = g.mul(queries, fromStart)
  const writes = g.mul(keys, toEnd)
  const decays = g.unary('exp', whole)

  const chunkOf = (x: Tensor, chunk: number): Tensor => {
    const [heads, share, , ...rest] = x.shape as [Dim, Dim, Dim, Dim, Dim]
    return g.reshape(g.slice(x, 2, chunk, chunk + 1), [heads, share, ...rest])
  }
  let current = state
  const outputs: Tensor[] = []
  for (let chunk = 0; chunk < chunks; chunk++) {
    const fresh = g.sub(chunkOf(written, chunk), g.matmul(chunkOf(erased, chunk), current))
    const read = g.add(
      g.matmul(chunkOf(reads, chunk), current, { alpha }),
      g.matmul(chunkOf(weights, chunk), fresh),
    )
    const [heads, share, ...rest] = read.shape as [Dim, Dim, Dim, Dim]
    outputs.push(g.reshape(read, [heads, share, 1, ...rest]))
    current = g.add(
      g.mul(current, chunkOf(decays, chunk)),
      g.matmul(chunkOf(writes, chunk), fresh, { transA: true }),
    )
  }
  return { output: g.concat(outputs, 2), state: current }
}

/**
 * (I + L)^-1 for strictly lower triangular L [..., K, K], K at most `CHUNK_TOKENS`. Diagonal blocks double from level
 * to level: [[A, 0], [C, B]] has the inverse [[A', 0], [-B' C A', B']]. That is as stable as forward substitution;
 * the shorter product of I + (-L)^(2^k) is not, its powers reach 1e18 where all keys are alike.
 */
export function unitLowerInverse(g: GraphBuilder, lower: Tensor, levels: Levels): Tensor {
  const onLevel = (level: number): Tensor => g.cast(g.binary('equal', levels, g.constant(level)), 'f32')
  // The derivative of an inverse needs the inverse alone, so the steps towards it are kept out of the backward pass.
  const fixed = g.stopGradient(lower)
  let inverse = g.sub(onLevel(-1), g.mul(fixed, onLevel(0)))
  for (let level = 1; level < LEVELS; level++) {
    const joined = g.matmul(g.matmul(inverse, g.mul(fixed, onLevel(level))), inverse)
    inverse = g.sub(inverse, joined)
  }
  const change = g.sub(lower, fixed)
  return g.sub(inverse, g.matmul(g.matmul(inverse, change), inverse))
}
