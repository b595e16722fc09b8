/**
 * Computing steps again from their traces: the same updates as the steps that wrote them, bit for bit on the same
 * engine, and beside them what the trace should have held (positions, prompts, logprobs, rewards). It reports; the
 * caller judges.
 */
import type { TrainerState } from './checkpoint/state.ts'
import { GspoError } from './errors.ts'
import { learn } from './learn.ts'
import type { TokenScores } from './policy-types.ts'
import { rollout, rolloutOptionsOf } from './rollout/rollout.ts'
import { rewardSampleOf } from './rollout/score-rollout.ts'
import { scoreSamples } from './rewards/score.ts'
import { describeStep } from './stats.ts'
import { scoreSequences } from './teacher-forcing.ts'
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
  resample: readonly (readonly number[])[],
  signal: AbortSignal,
): Promise<{ replayed: ReplayedStep[]; after: TrainerState }> {
  const { policy, config } = workshop
  for (const step of steps) checkTrace(step, config, policy.model)
  const replayed: ReplayedStep[] = []
  let current = state
  try {
    for (const [index, step] of steps.entries()) {
      const started = performance.now()
      policy.setAdapter(current.adapter)
      const sequences = step.groups.flatMap(({ promptIds, completions }) =>
        completions.map(({ tokens }) => ({ promptIds, tokens })),
      )
      const scores = await scoreSequences(policy, sequences, { adapter: true, config }, signal)
      const resampled = await resampleGroups(workshop, step, resample[index] ?? [], signal)
      const scored = performance.now()
      const expected = await expectedGroups(workshop, current, step, { scores, resampled }, signal)
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

/** What the policy before the step says of the traced tokens. */
interface Recomputed {
  /** One entry a completion, in order. */
  readonly scores: readonly TokenScores[]
  /** By group. */
  readonly resampled: ReadonlyMap<number, readonly Int32Array[]>
}

/** Samples groups again with the draws their step had. Throws BAD_TRACE for a group that does not exist. */
async function resampleGroups(
  workshop: Workshop,
  step: StepTrace,
  indices: readonly number[],
  signal: AbortSignal,
): Promise<Map<number, Int32Array[]>> {
  const prompts = indices.map((index) => {
    const group = step.groups[index]
    if (group === undefined)
      throw new GspoError('BAD_TRACE', `resample asks for group ${index}, the step has ${step.groups.length}`)
    return { position: group.dataPosition, ids: group.promptIds }
  })
  const groups = await rollout(workshop.policy, prompts, rolloutOptionsOf(workshop, signal))
  return new Map(indices.map((index, place) => [index, (groups[place] ?? []).map(({ tokens }) => tokens)]))
}

async function expectedGroups(
  workshop: Workshop,
  state: TrainerState,
  step: StepTrace,
  recomputed: Recomputed,
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
    resampled: recomputed.resampled.get(index) ?? null,
    completions: completions.map(() => {
      const place = next++
      return {
        logps: recomputed.scores[place]?.logps ?? new Float32Array(0),
        entropies: recomputed.scores[place]?.entropies ?? new Float32Array(0),
        reward: scored.rewards[place] ?? NaN,
        components: scored.components[place] ?? [],
        rewardIsDeterministic,
      }
    }),
  }))
}
