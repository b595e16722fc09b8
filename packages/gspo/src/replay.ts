/**
 * Computing steps again from their traces: the same updates as the steps that wrote them, bit for bit on the same
 * engine, and beside them what the trace should have held (positions, prompts, logprobs, rewards). It reports; the
 * caller judges.
 */
import type { TrainerState } from './checkpoint/state.ts'
import type { ResolvedConfig } from './config.ts'
import { GspoError } from './errors.ts'
import { learn } from './learn.ts'
import type { Policy } from './policy-types.ts'
import { rewardSampleOf } from './rollout/score-rollout.ts'
import { buildTokenBatch, splitByTokens } from './rollout/token-batch.ts'
import { scoreSamples } from './rewards/score.ts'
import { describeStep } from './stats.ts'
import { checkTrace } from './trace/check.ts'
import type { StepTrace } from './trace/types.ts'
import type { ReplayedStep } from './trainer-types.ts'
import type { Workshop } from './workshop.ts'

/**
 * Replays steps from `state`. The updates use the traced rewards and logprobs; the recomputed ones are returned.
 * Rejects with GspoError BAD_TRACE (a trace that no step could have written), NON_FINITE, or the signal's reason.
 */
export async function replaySteps(
  workshop: Workshop,
  state: TrainerState,
  steps: readonly StepTrace[],
  signal: AbortSignal,
): Promise<{ replayed: ReplayedStep[]; after: TrainerState }> {
  const { policy, config } = workshop
  for (const step of steps) checkTrace(step, config, policy.model)
  const replayed: ReplayedStep[] = []
  let current = state
  try {
    for (const step of steps) {
      const started = performance.now()
      policy.setAdapter(current.adapter)
      const logps = await recomputeLogps(policy, step, config, signal)
      const scored = performance.now()
      const expected = await expectedGroups(workshop, current, step, logps, signal)
      const rewarded = performance.now()
      const learned = await learn(policy, current, step, config, signal)
      const seconds = {
        rollout: (scored - started) / 1000,
        reward: (rewarded - scored) / 1000,
        total: (performance.now() - started) / 1000,
      }
      replayed.push({
        stats: describeStep(step, learned, workshop.rewards, seconds),
        expectedSeed: config.seed,
        groups: expected,
      })
      current = learned.state
    }
  } catch (error) {
    policy.setAdapter(state.adapter)
    throw error
  }
  return { replayed, after: current }
}

/** Teacher-forced logprobs of every traced completion, in order. */
async function recomputeLogps(
  policy: Policy,
  step: StepTrace,
  config: ResolvedConfig,
  signal: AbortSignal,
): Promise<Float32Array[]> {
  const sequences = step.groups.flatMap(({ promptIds, completions }) =>
    completions.map(({ tokens }) => ({ promptIds, tokens })),
  )
  const all: Float32Array[] = []
  for (const part of splitByTokens(sequences, config.micro_batch_tokens)) {
    signal.throwIfAborted()
    const batch = buildTokenBatch(part, policy.model.padTokenId)
    const { logps } = await policy.logprobs(batch, { temperature: config.temperature, adapter: true })
    for (const [row, { tokens }] of part.entries())
      all.push(logps.slice(row * batch.completionLength, row * batch.completionLength + tokens.length))
  }
  return all
}

async function expectedGroups(
  workshop: Workshop,
  state: TrainerState,
  step: StepTrace,
  logps: readonly Float32Array[],
  signal: AbortSignal,
): Promise<ReplayedStep['groups']> {
  const { dataset, order, tokenizer, rewards } = workshop
  const rows = step.groups.map((_, index) => {
    const row = dataset.rows[order.rowAt(state.dataPosition + index)]
    if (row === undefined)
      throw new GspoError('BAD_STATE', `data position ${state.dataPosition + index} is outside the data set`)
    return row
  })
  const samples = step.groups.flatMap(({ completions }, index) => {
    const row = rows[index]
    return row === undefined ? [] : completions.map((completion) => rewardSampleOf(workshop, row, completion))
  })
  const scored = await scoreSamples(samples, rewards, signal)
  const rewardIsDeterministic = rewards.every(({ reward }) => reward.deterministic)
  let next = 0
  return step.groups.map(({ completions }, index) => ({
    expectedDataPosition: state.dataPosition + index,
    expectedPromptIds: tokenizer.encodePrompt(rows[index]?.prompt ?? ''),
    completions: completions.map(() => {
      const place = next++
      return {
        logps: logps[place] ?? new Float32Array(0),
        reward: scored.rewards[place] ?? NaN,
        components: scored.components[place] ?? [],
        rewardIsDeterministic,
      }
    }),
  }))
}
