/**
 * The learning half of a step: from a traced rollout to a new adapter, in minibatches and micro-batches. It samples
 * nothing and scores nothing, so a replay of the trace takes the same path and ends in the same bits. The given state
 * is never changed; a failure anywhere leaves nothing half done.
 */
import { computeAdvantages } from './advantages.ts'
import type { Advantages } from './advantages.ts'
import type { TrainerState } from './checkpoint/state.ts'
import type { ResolvedConfig } from './config.ts'
import { checkFinite } from './finite.ts'
import type { AdapterLayout } from './lora.ts'
import { LossSums, minibatchGradient, tokensPerUpdate } from './minibatch.ts'
import type { LossRow } from './minibatch.ts'
import { adamwUpdate } from './optim/adamw.ts'
import type { AdamwConfig, ParameterRange } from './optim/adamw.ts'
import { clipGradient } from './optim/clip.ts'
import { learningRateAt } from './optim/schedule.ts'
import type { Policy, TokenScores } from './policy-types.ts'
import { permutation, STREAM } from './sampling/philox.ts'
import { scoreSequences } from './teacher-forcing.ts'
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

/** The state after a step, its statistics, the advantages it used, and what it saw of the tokens. */
export interface Learned {
  readonly state: TrainerState
  readonly stats: LearnStats
  readonly advantages: Advantages
  /**
   * Scores under the policy before the step, by the completion's place in the rollout: of those that were in the first
   * update's loss. They come with it at no cost.
   */
  readonly scores: ReadonlyMap<number, TokenScores>
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
  policy.setAdapter(state.adapter)
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
  const sums = new LossSums()
  const clock = { forwardBackwardMs: 0, optimizerMs: 0 }
  let mark = performance.now()
  const lap = (part: keyof typeof clock): void => {
    const now = performance.now()
    clock[part] += now - mark
    mark = now
  }
  const rows = await lossRows(policy, trace, advantages, config, signal)
  const minibatches = splitMinibatches(rows, trace, config)
  const numItems = tokensPerUpdate(rows, minibatches.length)
  const parameters = parameterRanges(policy.adapterLayout)
  const scores = new Map<number, TokenScores>()
  const places = new Map(rows.map((row, place) => [row, place]))
  const keepScores = (row: LossRow, seen: TokenScores): void => {
    const place = places.get(row)
    if (current === state && place !== undefined) scores.set(place, seen)
  }
  let current = state
  let gradNormSum = 0
  let learningRate = 0
  for (let iteration = 0; iteration < config.num_iterations; iteration++) {
    for (const minibatch of minibatches) {
      const { gradient, unreached } = await minibatchGradient(
        policy,
        minibatch,
        config,
        numItems,
        sums,
        signal,
        keepScores,
      )
      lap('forwardBackwardMs')
      gradNormSum += clipGradient(gradient, config.max_grad_norm)
      learningRate = learningRateAt(current.updates, scheduleOf(config))
      const { weights, state: optimizer } = adamwUpdate(
        current.adapter,
        gradient,
        current.optimizer,
        parameters,
        adamwConfigOf(config, learningRate),
        (parameter) => !unreached.has(parameter),
      )
      checkFinite(weights, policy.adapterLayout, 'the adapter after the update')
      current = { ...current, adapter: weights, optimizer, updates: current.updates + 1 }
      policy.setAdapter(current.adapter)
      lap('optimizerMs')
    }
  }
  const updates = minibatches.length * config.num_iterations
  return {
    state: { ...current, step: state.step + 1, dataPosition: state.dataPosition + trace.groups.length },
    advantages,
    scores,
    stats: {
      loss: sums.loss / updates,
      gradNorm: gradNormSum / updates,
      clipRatioLow: sums.clipLow / Math.max(1, sums.allRatios),
      clipRatioHigh: sums.clipHigh / Math.max(1, sums.allRatios),
      kl: sums.kl / Math.max(1, sums.tokens),
      entropy: sums.entropy / Math.max(1, sums.tokens),
      ratioMean: sums.ratios === 0 ? 1 : sums.ratio / sums.ratios,
      learningRate,
      forwardBackwardSeconds: clock.forwardBackwardMs / 1000,
      optimizerSeconds: clock.optimizerMs / 1000,
    },
  }
}

/** The rows of a rollout with the logprobs that its loss compares with. */
async function lossRows(
  policy: Policy,
  trace: StepTrace,
  advantages: Advantages,
  config: ResolvedConfig,
  signal: AbortSignal,
): Promise<LossRow[]> {
  const sequences = trace.groups.flatMap(({ promptIds, completions }) =>
    completions.map((completion) => ({ ...completion, promptIds })),
  )
  const ref =
    config.beta > 0 ? await scoreSequences(policy, sequences, { adapter: false, config }, signal) : null
  // A single update is on policy: the ratio is 1 by definition, as in TRL, and rounding cannot clip it.
  const onPolicy = config.steps_per_generation * config.num_iterations === 1
  return sequences.map(({ promptIds, tokens, logps, reward, finish }, index) => ({
    promptIds,
    tokens,
    advantage: advantages.values[index] ?? 0,
    // An unscorable completion is left out of the loss altogether, the KL term included.
    masked: Number.isNaN(reward) || (config.mask_truncated_completions && finish === 'length'),
    oldLogps: onPolicy ? null : logps,
    refLogps: ref?.[index]?.logps ?? null,
  }))
}

/** Equal shares of the rollout; shuffled when there are several, so that a group is not all in one update. */
function splitMinibatches(rows: readonly LossRow[], trace: StepTrace, config: ResolvedConfig): LossRow[][] {
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

function adamwConfigOf(config: ResolvedConfig, learningRate: number): AdamwConfig {
  return {
    learningRate,
    beta1: config.adam_beta1,
    beta2: config.adam_beta2,
    epsilon: config.adam_epsilon,
    weightDecay: config.weight_decay,
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
