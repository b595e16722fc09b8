/** The loss's arithmetic outside the graph: aggregation weights, the graph's inputs, metrics. Pure. */
import type { Feed } from './engine/engine.ts'
import { lossScalars } from './models/loss.ts'
import type { LossBatch, LossConfig, LossMetrics, TokenScores } from './policy-types.ts'

/** Weights of the whole batch, so that parts of it can run one after the other and be added. */
export interface LossWeights {
  /** [rows * completionLength]: mask times the share of each token in the loss. */
  readonly token: Float32Array
  /** [rows * completionLength]: mask / tokens of the row; their weighted sum is the sequence's mean. */
  readonly sequence: Float32Array
}

/** Aggregation as in TRL: grpo, bnpo, dapo, dr_grpo, luspo (cispo as dapo, sapo as grpo). */
export function lossWeights(batch: LossBatch, config: LossConfig): LossWeights {
  const { rows, completionLength, completionMask } = batch
  const token = new Float32Array(completionMask.length)
  const sequence = new Float32Array(completionMask.length)
  const lengths = rowLengths(batch)
  const total = lengths.reduce((sum, length) => sum + length, 0)
  for (let row = 0; row < rows; row++) {
    const length = Math.max(lengths[row] ?? 0, 1)
    const share = tokenShare(config, { rows, length, total })
    for (let i = row * completionLength; i < (row + 1) * completionLength; i++) {
      if (completionMask[i] !== 1) continue
      token[i] = share
      sequence[i] = 1 / length
    }
  }
  return { token, sequence }
}

function tokenShare(config: LossConfig, sizes: { rows: number; length: number; total: number }): number {
  const { rows, length, total } = sizes
  switch (config.loss_type) {
    case 'grpo':
    case 'sapo':
      return 1 / (rows * length)
    case 'bnpo':
      return 1 / Math.max(total, 1)
    case 'dapo':
    case 'cispo':
      return 1 / (config.num_items ?? Math.max(total, 1))
    case 'dr_grpo':
      return 1 / (rows * config.max_completion_length)
    case 'luspo':
      return 1 / rows
  }
}

/** Inputs of the loss graph for `rows` rows of a batch from `firstRow` on. */
export function lossFeeds(
  batch: LossBatch,
  { firstRow, rows }: { firstRow: number; rows: number },
  loss: LossConfig,
  weights: LossWeights,
): Record<string, Feed> {
  const columns = batch.completionLength
  const cut = (values: Float32Array): Feed => ({
    dims: [rows, columns],
    values: values.subarray(firstRow * columns, (firstRow + rows) * columns),
  })
  const advantages = batch.advantages.subarray(firstRow, firstRow + rows)
  const feeds: Record<string, Feed> = {
    token_weights: cut(weights.token),
    advantages: { dims: [rows, 1], values: advantages },
  }
  if (batch.oldLogps !== null) feeds['old_logps'] = cut(batch.oldLogps)
  for (const [name, value] of Object.entries(lossScalars(loss)))
    feeds[name] = { dims: [], values: Float32Array.of(value) }
  if (loss.importance_sampling_level !== 'token') feeds['sequence_weights'] = cut(weights.sequence)
  if (loss.beta !== 0 && batch.refLogps !== null) feeds['ref_logps'] = cut(batch.refLogps)
  if (loss.loss_type === 'sapo') {
    const { sapo_temperature_pos: positive = 1, sapo_temperature_neg: other = 1.05 } = loss
    feeds['slopes'] = { dims: [rows, 1], values: advantages.map((value) => (value > 0 ? positive : other)) }
  }
  return feeds
}

/**
 * Means as TRL logs them: over sequences where the ratio is a sequence's, else over real tokens. What counts as clipped
 * is what the loss type clips: cispo's ratios above epsilon_high itself, and nothing with sapo.
 */
export function lossMetrics(batch: LossBatch, config: LossConfig, scores: TokenScores): LossMetrics {
  const { rows, completionLength, completionMask, advantages, refLogps } = batch
  const oldLogps = batch.oldLogps ?? scores.logps
  const isSequence = config.importance_sampling_level === 'sequence'
  const { lower, upper } = clipBounds(config)
  const ratio = new MeanOf()
  const low = new MeanOf()
  const high = new MeanOf()
  const kl = new MeanOf()
  const entropy = new MeanOf()
  const count = (value: number, advantage: number): void => {
    ratio.add(value)
    low.add(value < lower && advantage < 0 ? 1 : 0)
    high.add(value > upper && advantage > 0 ? 1 : 0)
  }
  for (let row = 0; row < rows; row++) {
    const advantage = advantages[row] ?? 0
    const sequence = sequenceRatio(batch, scores.logps, oldLogps, row)
    if (isSequence) count(sequence, advantage)
    for (let i = row * completionLength; i < (row + 1) * completionLength; i++) {
      if (completionMask[i] !== 1) continue
      const logp = scores.logps[i] ?? 0
      const own = Math.exp(logp - (oldLogps[i] ?? 0))
      const used = config.importance_sampling_level === 'token' ? own : sequence
      if (!isSequence) count(used, advantage)
      entropy.add(scores.entropies[i] ?? 0)
      const difference = refLogps === null ? 0 : (refLogps[i] ?? 0) - logp
      const k3 = Math.exp(difference) - difference - 1
      kl.add(config.use_bias_correction_kl ? k3 * used : k3)
    }
  }
  return {
    ratioMean: ratio.mean,
    clipRatioLow: low.mean,
    clipRatioHigh: high.mean,
    kl: kl.mean,
    entropy: entropy.mean,
  }
}

/** Ratios below or above which a loss type clips. */
function clipBounds(config: LossConfig): { lower: number; upper: number } {
  const { lower, upper } = lossScalars(config)
  switch (config.loss_type) {
    case 'sapo':
      return { lower: -Infinity, upper: Infinity }
    case 'cispo':
      return { lower: -Infinity, upper }
    case 'grpo':
    case 'bnpo':
    case 'dapo':
    case 'dr_grpo':
    case 'luspo':
      return { lower, upper }
  }
}

function sequenceRatio(batch: LossBatch, logps: Float32Array, oldLogps: Float32Array, row: number): number {
  const { completionLength, completionMask } = batch
  const mean = new MeanOf()
  for (let i = row * completionLength; i < (row + 1) * completionLength; i++)
    if (completionMask[i] === 1) mean.add((logps[i] ?? 0) - (oldLogps[i] ?? 0))
  return Math.exp(mean.mean)
}

function rowLengths({ rows, completionLength, completionMask }: LossBatch): number[] {
  return Array.from({ length: rows }, (_, row) => {
    let length = 0
    for (let i = 0; i < completionLength; i++) length += completionMask[row * completionLength + i] ?? 0
    return length
  })
}

/** A running mean; of nothing it is 0. */
class MeanOf {
  private total = 0
  private count = 0

  add(value: number): void {
    this.total += value
    this.count++
  }

  get mean(): number {
    return this.count === 0 ? 0 : this.total / this.count
  }
}
