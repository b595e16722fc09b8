/**
 * One minibatch of traced sequences: its gradient and loss, accumulated over micro-batches that fit in memory, and the
 * sums that the step's statistics are made of. Micro-batches add up to exactly the minibatch's loss.
 */
import { setImmediate as yieldToEvents } from 'node:timers/promises'
import type { ResolvedConfig } from './config.ts'
import { GspoError } from './errors.ts'
import { checkFinite } from './finite.ts'
import type { LossBatch, LossConfig, Policy, TokenScores } from './policy-types.ts'
import { buildTokenBatch, padCompletions, splitByTokens } from './rollout/token-batch.ts'

/** A sequence with what the loss needs to know of it. */
export interface LossRow {
  readonly promptIds: Int32Array
  readonly tokens: Int32Array
  readonly advantage: number
  /** Left out of the loss. */
  readonly masked: boolean
  /** Logprobs under the policy that sampled; null on policy, where the ratio is 1 by definition. */
  readonly oldLogps: Float32Array | null
  /** Logprobs under the base model; null without KL term. */
  readonly refLogps: Float32Array | null
}

/** Sums over the minibatches of a step; each mean is over what was seen with its own weight. */
export class LossSums {
  loss = 0
  clipLow = 0
  clipHigh = 0
  kl = 0
  entropy = 0
  ratio = 0
  /** Tokens that the sums of kl and entropy are over. */
  tokens = 0
  /** What the sum of ratios is over: sequences or tokens, as the importance ratio is per sequence or token. */
  ratios = 0
  /** The same with groups without signal, which clip nothing: what the clip fractions are over. */
  allRatios = 0
}

/** A minibatch's gradient, flat, and the adapter tensors that no token reached (experts of a mixture). */
export interface MinibatchGradient {
  readonly gradient: Float32Array
  readonly unreached: ReadonlySet<number>
}

/**
 * Tokens that dapo and cispo divide an update's loss by: those of the whole rollout, shared equally among its
 * minibatches as TRL does it, so that a token counts the same in each.
 */
export function tokensPerUpdate(rollout: readonly LossRow[], minibatches: number): number {
  return Math.max(1, lossTokens(rollout)) / minibatches
}

/**
 * The gradient of the loss over one minibatch (`numItems`: see `tokensPerUpdate`); adds to `sums`, and tells the scores of each row that it ran.
 * Rejects with GspoError NON_FINITE, which names the tensor, or the signal's reason.
 */
export async function minibatchGradient(
  policy: Policy,
  rows: readonly LossRow[],
  config: ResolvedConfig,
  numItems: number,
  sums: LossSums,
  signal: AbortSignal,
  onScores: (row: LossRow, scores: TokenScores) => void = () => undefined,
): Promise<MinibatchGradient> {
  const gradient = new Float32Array(policy.adapterLayout.length)
  const totalTokens = lossTokens(rows)
  const withGradient = rows.filter((row) => hasGradient(row, config))
  let unreached: ReadonlySet<number> | undefined
  sums.allRatios += ratioCount(rows, config)
  for (const part of splitByTokens(withGradient, config.micro_batch_tokens)) {
    await yieldToEvents()
    signal.throwIfAborted()
    const tokens = lossTokens(part)
    const shareOfRows = part.length / rows.length
    const weight = microBatchWeight(config, shareOfRows, tokens / Math.max(1, totalTokens))
    const loss = lossConfigOf(config, numItems, balanceWeight(config, shareOfRows, weight))
    const result = await policy.lossAndGradient(lossBatchOf(part, policy), loss)
    if (!Number.isFinite(result.loss))
      throw new GspoError(
        'NON_FINITE',
        `the loss is ${result.loss}: nothing was changed; lower learning_rate or look at the rewards`,
      )
    checkFinite(result.gradient, policy.adapterLayout, 'the gradient')
    tellScores(part, result.scores, onScores)
    for (let i = 0; i < gradient.length; i++)
      gradient[i] = (gradient[i] ?? 0) + weight * (result.gradient[i] ?? 0)
    unreached =
      unreached === undefined
        ? result.unreached
        : new Set([...unreached].filter((tensor) => result.unreached.has(tensor)))
    const ratios = ratioCount(part, config)
    sums.loss += weight * result.loss
    sums.clipLow += ratios * result.metrics.clipRatioLow
    sums.clipHigh += ratios * result.metrics.clipRatioHigh
    sums.ratio += ratios * result.metrics.ratioMean
    sums.ratios += ratios
    sums.kl += tokens * result.metrics.kl
    sums.entropy += tokens * result.metrics.entropy
    sums.tokens += tokens
  }
  return { gradient, unreached: unreached ?? new Set() }
}

function tellScores(
  rows: readonly LossRow[],
  { logps, entropies }: TokenScores,
  onScores: (row: LossRow, scores: TokenScores) => void,
): void {
  const columns = rows.reduce((most, { tokens }) => Math.max(most, tokens.length), 1)
  for (const [at, row] of rows.entries()) {
    if (row.masked) continue // its tokens have no place in the batch
    const [start, end] = [at * columns, at * columns + row.tokens.length]
    onScores(row, { logps: logps.slice(start, end), entropies: entropies.slice(start, end) })
  }
}

/** Rows whose gradient is exactly zero (no advantage, no KL, no auxiliary loss) need no pass through the model. */
function hasGradient(row: LossRow, config: ResolvedConfig): boolean {
  if (config.router_aux_loss_coef > 0) return true
  return !row.masked && (row.advantage !== 0 || config.beta > 0)
}

function lossTokens(rows: readonly LossRow[]): number {
  return rows.reduce((sum, { masked, tokens }) => sum + (masked ? 0 : tokens.length), 0)
}

function ratioCount(rows: readonly LossRow[], config: ResolvedConfig): number {
  return config.importance_sampling_level === 'sequence' ? rows.length : lossTokens(rows)
}

/** What a micro-batch's own mean counts for in its minibatch's, by how the loss type averages. */
function microBatchWeight(
  { loss_type: lossType }: ResolvedConfig,
  shareOfRows: number,
  shareOfTokens: number,
): number {
  switch (lossType) {
    case 'grpo':
    case 'sapo':
    case 'dr_grpo':
    case 'luspo':
      return shareOfRows
    case 'bnpo':
      return shareOfTokens
    case 'dapo':
    case 'cispo':
      // These divide by num_items, the same for all micro-batches, already.
      return 1
  }
}

/**
 * The weight of a micro-batch's load-balancing loss before it is multiplied with the micro-batch's own. Each balances
 * its own tokens and they are averaged by rows, whatever the loss type, as TRL does under gradient accumulation; so it
 * depends a little on how a minibatch is cut, since a share of tokens times a mean probability is no sum over parts.
 */
function balanceWeight(
  { router_aux_loss_coef: coef }: ResolvedConfig,
  shareOfRows: number,
  weight: number,
): number {
  return weight === 0 ? 0 : (coef * shareOfRows) / weight
}

function lossBatchOf(rows: readonly LossRow[], policy: Policy): LossBatch {
  const batch = buildTokenBatch(rows, policy.model.padTokenId)
  const padded = (logps: readonly (Float32Array | null)[]): Float32Array | null => {
    const present = logps.filter((values) => values !== null)
    return present.length === logps.length ? padCompletions(present, batch.completionLength) : null
  }
  return {
    ...batch,
    advantages: Float32Array.from(rows, ({ advantage }) => advantage),
    oldLogps: padded(rows.map(({ oldLogps }) => oldLogps)),
    refLogps: padded(rows.map(({ refLogps }) => refLogps)),
  }
}

function lossConfigOf(config: ResolvedConfig, numItems: number, balance: number): LossConfig {
  return {
    importance_sampling_level: config.importance_sampling_level,
    loss_type: config.loss_type,
    epsilon: config.epsilon,
    epsilon_high: config.epsilon_high,
    delta: config.delta,
    sapo_temperature_pos: config.sapo_temperature_pos,
    sapo_temperature_neg: config.sapo_temperature_neg,
    beta: config.beta,
    use_bias_correction_kl: config.use_bias_correction_kl,
    temperature: config.temperature,
    max_completion_length: config.max_completion_length,
    router_aux_loss_coef: balance,
    num_items: numItems,
  }
}
