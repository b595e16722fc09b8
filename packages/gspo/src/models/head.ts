/**
 * The head over scored tokens, in parts of the vocabulary, so that no more than one part's logits exist at a time. Parts
 * meet in a running partition function and running means, as keys do in flash attention; compare Liger's fused cross
 * entropy (arXiv 2410.10989), which cuts tokens. Nothing is computed twice for the gradient.
 */
import { dimOf, type GraphBuilder } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import { GspoError } from '../errors.ts'

/** Parts of the vocabulary begin at multiples of this: whole bytes of codes, and cache lines. */
const PART_ROWS = 64

/** Name of the input with the ids of the scored tokens. */
export const TARGETS_INPUT = 'targets'

/** Ids of the scored tokens, [N]. */
export function targetsInput(g: GraphBuilder): Tensor {
  return g.input(TARGETS_INPUT, ['N'], 'i32')
}

/** Name of the input with the numbers 0 to V - 1, [1, V]. */
export const VOCABULARY_INPUT = 'vocabulary'

/**
 * Log-probabilities and entropies of the targets, [N] each, without a gradient; hidden [N, H], head [V, H], which is
 * gone through in `parts` parts. With `withBelow` also `below` [N], the probability of all tokens before the target:
 * where its draws begin.
 */
export function headScores(
  g: GraphBuilder,
  hidden: Tensor,
  head: Tensor,
  parts: number,
  withBelow = false,
): { logps: Tensor; entropies: Tensor; below?: Tensor } {
  const vocabulary = withBelow ? g.input(VOCABULARY_INPUT, [1, dimOf(head, 0)]) : null
  const { picked, partition, means } = overVocabulary(g, hidden, head, parts, (part) => {
    const logit = g.sum(g.mul(part.probabilities, part.logits), [1])
    return { row: null, means: vocabulary === null ? [logit] : [logit, massBelow(g, vocabulary, part)] }
  })
  const [meanLogit = partition, below] = means
  const scores = { logps: g.sub(picked, partition), entropies: g.sub(partition, meanLogit) }
  return below === undefined ? scores : { ...scores, below }
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
  parts: number,
): { logps: Tensor; entropies: Tensor } {
  const fixed = g.stopGradient(hidden)
  const { picked, partition, row, means } = overVocabulary(g, fixed, head, parts, (part) => ({
    means: [g.matmul(part.probabilities, part.weight)],
    row: g.gatherRows(part.weight, part.index),
  }))
  const [meanRow] = means
  if (meanRow === undefined || row === null) throw new GspoError('BAD_GRAPH', 'the head gave no gradient')
  return {
    logps: g.attachGradient(g.sub(picked, partition), hidden, g.sub(row, meanRow)),
    entropies: g.sub(partition, g.sum(g.mul(fixed, meanRow), [1])),
  }
}

/** A part of the vocabulary, ids `first` to `end`, for N tokens. */
interface VocabularyPart {
  readonly first: number
  readonly end: number
  /** Rows of the head [end - first, H]. */
  readonly weight: Tensor
  /** [N, end - first] */
  readonly logits: Tensor
  /** Their softmax, within the part. */
  readonly probabilities: Tensor
  readonly targets: Tensor
  /** Place [N] of each target in the part; some place for targets that are not in it. */
  readonly index: Tensor
}

/** What is known of N tokens after some parts of the vocabulary. */
interface PartScores {
  /** The logarithm of the sum of the logits' exponentials, [N]. */
  readonly partition: Tensor
  /** The targets' logits, [N]; without meaning for those that have not been met. */
  readonly picked: Tensor
  /** Rows of the targets in the head [N, H], likewise. */
  readonly row: Tensor | null
  /** Means under the probabilities so far, [N] or [N, H]. */
  readonly means: readonly Tensor[]
}

/** Goes through the vocabulary part by part; `look` says what besides is wanted of a part. */
function overVocabulary(
  g: GraphBuilder,
  hidden: Tensor,
  head: Tensor,
  parts: number,
  look: (part: VocabularyPart) => Pick<PartScores, 'means' | 'row'>,
): PartScores {
  const ranges = vocabularyRanges(Number(dimOf(head, 0)), parts)
  let all: PartScores | undefined
  for (const { first, end } of ranges) {
    const { rows, targets } = inTurn(g, hidden, targetsInput(g), all)
    const weight = g.slice(head, 0, first, end)
    const logits = g.matmul(rows, weight, { transB: true })
    const probabilities = g.softmax(logits)
    const { index, isOwn } = placeInPart(g, targets, first, end, ranges.length)
    const scores = {
      partition: partitionOf(g, logits, probabilities),
      picked: pickEach(g, logits, index),
      ...look({ first, end, weight, logits, probabilities, targets, index }),
    }
    all = all === undefined || isOwn === null ? scores : join(g, all, scores, isOwn)
  }
  if (all === undefined) throw new GspoError('BAD_GRAPH', 'a vocabulary of no token')
  return all
}

/** Nearly equal parts of whole blocks of rows; fewer where there are not so many blocks. */
export function vocabularyRanges(vocabulary: number, parts: number): { first: number; end: number }[] {
  const size = Math.max(Math.ceil(vocabulary / parts / PART_ROWS), 1) * PART_ROWS
  return Array.from({ length: Math.ceil(vocabulary / size) }, (_, part) => ({
    first: part * size,
    end: Math.min((part + 1) * size, vocabulary),
  }))
}

/**
 * What the next part starts from: the same numbers, but only after everything of the parts before. A runtime orders
 * what does not depend on each other as it likes, and ONNX Runtime would keep the logits of all parts until the last.
 */
function inTurn(
  g: GraphBuilder,
  hidden: Tensor,
  targets: Tensor,
  before: PartScores | undefined,
): { rows: Tensor; targets: Tensor } {
  if (before === undefined) return { rows: hidden, targets }
  const { partition, picked, row, means } = before
  const columns = [partition, picked, ...means, ...(row === null ? [] : [row])].map((part) =>
    part.shape.length === 1 ? column(g, part) : g.slice(part, 1, 0, 1),
  )
  const rest = g.concat(columns, 1)
  const keep = (x: Tensor, others: Tensor): Tensor => g.slice(g.concat([x, others], 1), 1, 0, dimOf(x, 1))
  const ids = keep(column(g, targets), g.cast(rest, 'i32'))
  return { rows: keep(hidden, rest), targets: g.reshape(ids, targets.shape) }
}

/** Where each target lies in a part, and whether it does; of one part alone all do. */
function placeInPart(
  g: GraphBuilder,
  targets: Tensor,
  first: number,
  end: number,
  parts: number,
): { index: Tensor; isOwn: Tensor | null } {
  if (parts === 1) return { index: targets, isOwn: null }
  const id = (value: number): Tensor => g.constant(value, [], 'i32')
  const clamped = g.binary('min', g.binary('max', targets, id(first)), id(end - 1))
  return { index: g.sub(clamped, id(first)), isOwn: g.binary('equal', clamped, targets) }
}

/** What is known after one part more. */
function join(g: GraphBuilder, before: PartScores, part: PartScores, isOwn: Tensor): PartScores {
  const partition = logAddExp(g, before.partition, part.partition)
  const share = g.unary('exp', g.sub(part.partition, partition))
  return {
    partition,
    picked: g.where(isOwn, part.picked, before.picked),
    row: before.row === null || part.row === null ? null : g.where(column(g, isOwn), part.row, before.row),
    means: part.means.map((mean, index) => {
      const old = before.means[index] ?? mean
      return g.add(old, g.mul(g.sub(mean, old), mean.shape.length === 1 ? share : column(g, share)))
    }),
  }
}

function logAddExp(g: GraphBuilder, a: Tensor, b: Tensor): Tensor {
  const most = g.binary('max', a, b)
  const sum = g.add(g.unary('exp', g.sub(a, most)), g.unary('exp', g.sub(b, most)))
  return g.add(most, g.unary('log', sum))
}

/** Probability, within the part, of the tokens before each target, [N]. */
function massBelow(
  g: GraphBuilder,
  vocabulary: Tensor,
  { first, end, probabilities, targets }: VocabularyPart,
): Tensor {
  const ids = g.slice(vocabulary, 1, first, end)
  const isBefore = g.binary('less', ids, column(g, g.cast(targets, 'f32')))
  return g.sum(g.where(isBefore, probabilities, g.constant(0)), [1])
}

/** The largest probability is 1 / sum(exp(l - max)), so its logarithm gives the partition function exactly. */
function partitionOf(g: GraphBuilder, logits: Tensor, probabilities: Tensor): Tensor {
  return g.sub(g.maximum(logits, [1]), g.unary('log', g.maximum(probabilities, [1])))
}

function pickEach(g: GraphBuilder, logits: Tensor, index: Tensor): Tensor {
  return g.reshape(g.pick(logits, column(g, index)), index.shape)
}

/** A vector as one column. */
function column(g: GraphBuilder, vector: Tensor): Tensor {
  return g.reshape(vector, [dimOf(vector, 0), 1])
}
