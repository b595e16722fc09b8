/** The head over scored tokens, chunk by chunk, so that no more than a chunk's logits exist at a time. */
import { addDims, type Dim } from '../graph/dims.ts'
import { dimOf, type GraphBuilder } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'

/** Name of the input with a chunk's target ids; its size is the chunk's. */
export function targetsName(chunk: number): string {
  return `targets_${chunk}`
}

/** Scored tokens of all chunks together. */
export function scoredDim(chunks: number): Dim {
  return Array.from({ length: chunks }, (_, chunk): Dim => chunkDim(chunk)).reduce(addDims)
}

/** A chunk's target ids. */
export function targetsInput(g: GraphBuilder, chunk: number): Tensor {
  return g.input(targetsName(chunk), [chunkDim(chunk)], 'i32')
}

/** Name of the input with the numbers 0 to V - 1, [1, V]. */
export const VOCABULARY_INPUT = 'vocabulary'

/**
 * Log-probabilities and entropies of the targets, [N] each, without a gradient; hidden [N, H], head [V, H]. With
 * `withBelow` also `below` [N], the probability of all tokens before the target: where its draws begin.
 */
export function headScores(
  g: GraphBuilder,
  hidden: Tensor,
  head: Tensor,
  chunks: number,
  withBelow = false,
): { logps: Tensor; entropies: Tensor; below?: Tensor } {
  const vocabulary = withBelow ? g.input(VOCABULARY_INPUT, [1, dimOf(head, 0)]) : null
  const parts = eachChunk(g, hidden, chunks, (rows, targets) => {
    const logits = g.matmul(rows, head, { transB: true })
    const { logps, partition, probabilities } = tokenLogps(g, logits, targets)
    const entropies = g.sub(partition, g.sum(g.mul(probabilities, logits), [1]))
    return {
      logps,
      entropies,
      below: vocabulary === null ? [] : [massBelow(g, vocabulary, probabilities, targets)],
    }
  })
  const scores = joinScores(g, parts)
  const below = parts.flatMap((part) => part.below)
  return below.length === 0 ? scores : { ...scores, below: g.concat(below, 0) }
}

/**
 * The same, and the log-probabilities let gradients through to `hidden`. That gradient, W[y] - p W a token, needs no
 * loss: made with the forward it spares the backward pass a second look at the vocabulary, and it gives the entropy
 * for a dot product.
 */
export function headScoresWithGradient(
  g: GraphBuilder,
  hidden: Tensor,
  head: Tensor,
  chunks: number,
): { logps: Tensor; entropies: Tensor } {
  const parts = eachChunk(g, hidden, chunks, (rows, targets) => {
    const fixed = g.stopGradient(rows)
    const logits = g.matmul(fixed, head, { transB: true })
    const { logps, partition, probabilities } = tokenLogps(g, logits, targets)
    const meanRow = g.matmul(probabilities, head)
    const jacobian = g.sub(g.gatherRows(head, targets), meanRow)
    return {
      logps: g.attachGradient(logps, rows, jacobian),
      entropies: g.sub(partition, g.sum(g.mul(fixed, meanRow), [1])),
    }
  })
  return joinScores(g, parts)
}

function chunkDim(chunk: number): Dim {
  return `N${chunk}`
}

function eachChunk<T>(
  g: GraphBuilder,
  hidden: Tensor,
  chunks: number,
  score: (rows: Tensor, targets: Tensor) => T,
): T[] {
  let start: Dim = 0
  return Array.from({ length: chunks }, (_, chunk) => {
    const targets = targetsInput(g, chunk)
    const end = addDims(start, dimOf(targets, 0))
    const rows = g.slice(hidden, 0, start, end)
    start = end
    return score(rows, targets)
  })
}

function joinScores(
  g: GraphBuilder,
  parts: readonly { logps: Tensor; entropies: Tensor }[],
): { logps: Tensor; entropies: Tensor } {
  return {
    logps: g.concat(
      parts.map(({ logps }) => logps),
      0,
    ),
    entropies: g.concat(
      parts.map(({ entropies }) => entropies),
      0,
    ),
  }
}

/** Probability of the tokens before each target, [n]. */
function massBelow(g: GraphBuilder, vocabulary: Tensor, probabilities: Tensor, targets: Tensor): Tensor {
  const isBefore = g.binary('less', vocabulary, g.reshape(g.cast(targets, 'f32'), [dimOf(targets, 0), 1]))
  return g.sum(g.where(isBefore, probabilities, g.constant(0)), [1])
}

/** From logits [n, V]: each target's log-probability, the log of the partition function [n], probabilities. */
function tokenLogps(
  g: GraphBuilder,
  logits: Tensor,
  targets: Tensor,
): { logps: Tensor; partition: Tensor; probabilities: Tensor } {
  const probabilities = g.softmax(logits)
  // The largest probability is 1 / sum(exp(l - max)), so its logarithm gives the partition function exactly.
  const partition = g.sub(g.maximum(logits, [1]), g.unary('log', g.maximum(probabilities, [1])))
  const count = dimOf(targets, 0)
  const picked = g.reshape(g.pick(logits, g.reshape(targets, [count, 1])), [count])
  return { logps: g.sub(picked, partition), partition, probabilities }
}
