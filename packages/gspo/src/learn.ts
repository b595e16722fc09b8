/**
 * The learning half of a step: from a traced rollout to a new adapter, in minibatches and micro-batches. It samples
 * nothing and scores nothing, so a replay of the trace takes the same path and ends in the same bits. The given state
 * is never changed; a failure anywhere leaves nothing half done.
 */
import { setImmediate as yieldToEvents } from 'node:timers/promises'
import { computeAdvantages } from './advantages.ts'
import type { Advantages } from './advantages.ts'
import type { TrainerState } from './checkpoint/state.ts'
import type { ResolvedConfig } from './config.ts'
import { GspoError } from './errors.ts'
import type { AdapterLayout } from './lora.ts'
import { adamwUpdate } from './optim/adamw.ts'
import type { ParameterRange } from './optim/adamw.ts'
import { clipGradient } from './optim/clip.ts'
import { learningRateAt } from './optim/schedule.ts'
import type { LossConfig, Policy } from './policy-types.ts'
import { buildTokenBatch, padCompletions, splitByTokens } from './rollout/token-batch.ts'
import { permutation, STREAM } from './sampling/philox.ts'
import type { StepTrace } from './trace/types.ts'

/** What the updates of one step report. */
export interface LearnStats {
  readonly loss: number
  readonly gradNorm: number
  readonly clipRatioLow: number
  readonly clipRatioHigh: number
  readonly kl: number
  readonly entropy: number
  readonly ratioMean: number
  readonly learningRate: number
  readonly forwardBackwardSeconds: number
  readonly optimizerSeconds: number
}

/** The state after a step, its statistics, and the advantages it used. */
export interface Learned {
  readonly state: TrainerState
  readonly stats: LearnStats
  readonly advantages: Advantages
}

interface Row {
  readonly promptIds: Int32Array
  readonly tokens: Int32Array
  readonly oldLogps: Float32Array
  readonly advantage: number
  readonly masked: boolean
  refLogps: Float32Array | null
}

/** Sums over micro-batches and minibatches, each with its weight. */
interface Sums {
  loss: number
  gradNorm: number
  clipLow: number
  clipHigh: number
  kl: number
  entropy: number
  ratio: number
  /** Tokens that the sums of kl, entropy and ratio are over. */
  seenTokens: number
  /** Tokens of all minibatches, groups without signal included. */
  allTokens: number
  forwardBackwardMs: number
  optimizerMs: number
}

/**
 * Runs the optimiser updates of one step (steps_per_generation x num_iterations).
 * Rejects with GspoError NON_FINITE (which names the tensor) or the signal's reason; `state` and the policy's adapter
 * are then what they were.
 */
export async function learn(
  policy: Policy,
  state: TrainerState,
  trace: StepTrace,
  config: ResolvedConfig,
  signal: AbortSignal,
): Promise<Learned> {
  try {
    return await runUpdates(policy, state, trace, config, signal)
  } catch (error) {
    policy.setAdapter(state.adapter)
    throw error
  }
}

async function runUpdates(
  policy: Policy,
  state: TrainerState,
  trace: StepTrace,
  config: ResolvedConfig,
  signal: AbortSignal,
): Promise<Learned> {
  const rewards = trace.groups.flatMap(({ completions }) => completions.map(({ reward }) => reward))
  const advantages = computeAdvantages(rewards, config.group_size, config.scale_rewards)
  const rows = rowsOf(trace, advantages, config)
  const sums: Sums = {
    loss: 0,
    gradNorm: 0,
    clipLow: 0,
    clipHigh: 0,
    kl: 0,
    entropy: 0,
    ratio: 0,
    seenTokens: 0,
    allTokens: 0,
    forwardBackwardMs: 0,
    optimizerMs: 0,
  }
  const started = performance.now()
  if (config.beta > 0) await addReferenceLogps(policy, rows, config, signal)
  sums.forwardBackwardMs += performance.now() - started
  const minibatches = splitMinibatches(rows, trace, config)
  const parameters = parameterRanges(policy.adapterLayout)
  let current = state
  let rate = 0
  policy.setAdapter(state.adapter)
  for (let iteration = 0; iteration < config.num_iterations; iteration++) {
    for (const minibatch of minibatches) {
      const gradient = await minibatchGradient(policy, minibatch, config, sums, signal)
      const optimizing = performance.now()
      sums.gradNorm += clipGradient(gradient, config.max_grad_norm)
      rate = learningRateAt(current.updates, scheduleOf(config))
      const next = adamwUpdate(current.adapter, gradient, current.optimizer, parameters, {
        learningRate: rate,
        beta1: config.adam_beta1,
        beta2: config.adam_beta2,
        epsilon: config.adam_epsilon,
        weightDecay: config.weight_decay,
      })
      checkFinite(next.weights, policy.adapterLayout, 'the adapter after the update')
      current = { ...current, adapter: next.weights, optimizer: next.state, updates: current.updates + 1 }
      policy.setAdapter(current.adapter)
      sums.optimizerMs += performance.now() - optimizing
    }
  }
  const after = { ...current, step: state.step + 1, dataPosition: state.dataPosition + trace.groups.length }
  return { state: after, stats: statsOf(sums, minibatches.length * config.num_iterations, rate), advantages }
}

function rowsOf(trace: StepTrace, advantages: Advantages, config: ResolvedConfig): Row[] {
  let index = 0
  return trace.groups.flatMap(({ promptIds, completions }) =>
    completions.map(({ tokens, logps, finish, reward }) => ({
      promptIds,
      tokens,
      oldLogps: logps,
      advantage: advantages.values[index++] ?? 0,
      // An unscorable completion is left out of the loss altogether, the KL term included.
      masked: Number.isNaN(reward) || (config.mask_truncated_completions && finish === 'length'),
      refLogps: null,
    })),
  )
}

/** Equal shares of the rollout; shuffled when there are several, so that a group is not all in one update. */
function splitMinibatches(rows: readonly Row[], trace: StepTrace, config: ResolvedConfig): Row[][] {
  const shares = config.steps_per_generation
  if (shares === 1) return [[...rows]]
  const size = rows.length / shares
  const order = permutation(rows.length, trace.seed, STREAM.minibatch, trace.step)
  return Array.from({ length: shares }, (_, share) =>
    // In the rollout's order again: the engine computes a prompt once for neighbouring rows that share it.
    Array.from(order.subarray(share * size, (share + 1) * size).toSorted()).flatMap(
      (index) => rows[index] ?? [],
    ),
  )
}

async function addReferenceLogps(
  policy: Policy,
  rows: readonly Row[],
  config: ResolvedConfig,
  signal: AbortSignal,
): Promise<void> {
  for (const part of splitByTokens(rows, config.micro_batch_tokens)) {
    await yieldToEvents()
    signal.throwIfAborted()
    const batch = buildTokenBatch(part, policy.model.padTokenId)
    const { logps } = await policy.logprobs(batch, { temperature: config.temperature, adapter: false })
    for (const [place, row] of part.entries()) {
      const start = place * batch.completionLength
      row.refLogps = logps.slice(start, start + row.tokens.length)
    }
  }
}

/** The gradient of the loss over one minibatch, accumulated over micro-batches that fit in memory. */
async function minibatchGradient(
  policy: Policy,
  minibatch: readonly Row[],
  config: ResolvedConfig,
  sums: Sums,
  signal: AbortSignal,
): Promise<Float32Array> {
  const gradient = new Float32Array(policy.adapterLayout.length)
  const totalTokens = lossTokens(minibatch)
  sums.allTokens += totalTokens
  const started = performance.now()
  for (const part of splitByTokens(
    minibatch.filter((row) => hasGradient(row, config)),
    config.micro_batch_tokens,
  )) {
    await yieldToEvents()
    signal.throwIfAborted()
    const batch = buildTokenBatch(part, policy.model.padTokenId)
    const result = await policy.lossAndGradient(
      {
        ...batch,
        advantages: Float32Array.from(part, ({ advantage }) => advantage),
        oldLogps: padCompletions(
          part.map(({ oldLogps }) => oldLogps),
          batch.completionLength,
        ),
        refLogps:
          config.beta > 0
            ? padCompletions(
                part.map(({ refLogps, tokens }) => refLogps ?? new Float32Array(tokens.length)),
                batch.completionLength,
              )
            : null,
      },
      lossConfigOf(config, totalTokens),
    )
    if (!Number.isFinite(result.loss))
      throw new GspoError(
        'NON_FINITE',
        `the loss is ${result.loss}: nothing was changed; lower learning_rate or look at the rewards`,
      )
    checkFinite(result.gradient, policy.adapterLayout, 'the gradient')
    const tokens = lossTokens(part)
    const weight = microBatchWeight(config, part.length / minibatch.length, tokens / Math.max(1, totalTokens))
    for (let i = 0; i < gradient.length; i++)
      gradient[i] = (gradient[i] ?? 0) + weight * (result.gradient[i] ?? 0)
    sums.loss += weight * result.loss
    sums.clipLow += tokens * result.metrics.clipRatioLow
    sums.clipHigh += tokens * result.metrics.clipRatioHigh
    sums.kl += tokens * result.metrics.kl
    sums.entropy += tokens * result.metrics.entropy
    sums.ratio += tokens * result.metrics.ratioMean
    sums.seenTokens += tokens
  }
  sums.forwardBackwardMs += performance.now() - started
  return gradient
}

/** Rows whose gradient is exactly zero (no advantage, no KL, no auxiliary loss) need no pass through the model. */
function hasGradient(row: Row, config: ResolvedConfig): boolean {
  if (config.router_aux_loss_coef > 0) return true
  return !row.masked && (row.advantage !== 0 || config.beta > 0)
}

function lossTokens(rows: readonly Row[]): number {
  return rows.reduce((sum, { masked, tokens }) => sum + (masked ? 0 : tokens.length), 0)
}

/** What a micro-batch's own mean counts for in its minibatch's, by how the loss type averages. */
function microBatchWeight(
  { loss_type: lossType }: ResolvedConfig,
  shareOfRows: number,
  shareOfTokens: number,
): number {
  switch (lossType) {
    case 'grpo':
    case 'dr_grpo':
    case 'luspo':
      return shareOfRows
    case 'bnpo':
      return shareOfTokens
    case 'dapo':
      return 1
  }
}

function lossConfigOf(config: ResolvedConfig, totalTokens: number): LossConfig {
  return {
    importance_sampling_level: config.importance_sampling_level,
    loss_type: config.loss_type,
    epsilon: config.epsilon,
    epsilon_high: config.epsilon_high,
    beta: config.beta,
    use_bias_correction_kl: config.use_bias_correction_kl,
    temperature: config.temperature,
    max_completion_length: config.max_completion_length,
    router_aux_loss_coef: config.router_aux_loss_coef,
    num_items: Math.max(1, totalTokens),
  }
}

function scheduleOf(config: ResolvedConfig): Parameters<typeof learningRateAt>[1] {
  return {
    type: config.lr_scheduler_type,
    learningRate: config.learning_rate,
    warmupUpdates: config.warmup_steps,
    totalUpdates: config.max_steps ?? 0,
  }
}

function parameterRanges(layout: AdapterLayout): ParameterRange[] {
  return layout.tensors.map(({ offset, shape }) => ({ offset, length: shape[0] * shape[1] }))
}

/** Throws NON_FINITE with the name of the first adapter tensor that holds a NaN or an infinity. */
function checkFinite(values: Float32Array, layout: AdapterLayout, what: string): void {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += (values[i] ?? 0) * 0
  if (sum === 0) return
  const bad = values.findIndex((value) => !Number.isFinite(value))
  const tensor = layout.tensors.findLast(({ offset }) => offset <= bad)
  throw new GspoError(
    'NON_FINITE',
    `${what} is ${values[bad]} in ${tensor?.name ?? 'an unknown tensor'}, element ${bad - (tensor?.offset ?? 0)}: the step was given up and nothing was changed; lower learning_rate or look at the rewards`,
  )
}

function statsOf(sums: Sums, updates: number, learningRate: number): LearnStats {
  const all = Math.max(1, sums.allTokens)
  const seen = Math.max(1, sums.seenTokens)
  return {
    loss: sums.loss / updates,
    gradNorm: sums.gradNorm / updates,
    clipRatioLow: sums.clipLow / all,
    clipRatioHigh: sums.clipHigh / all,
    kl: sums.kl / seen,
    entropy: sums.entropy / seen,
    ratioMean: sums.seenTokens === 0 ? 1 : sums.ratio / seen,
    learningRate,
    forwardBackwardSeconds: sums.forwardBackwardMs / 1000,
    optimizerSeconds: sums.optimizerMs / 1000,
  }
}
