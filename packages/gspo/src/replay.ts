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
import type { StepTrace, TracedGroup } from './trace/types.ts'
import type { ReplayedStep, ReplayOptions } from './trainer-types.ts'
import type { Workshop } from './workshop.ts'

/**
 * Replays steps from `state`. The updates use the traced rewards and logprobs; the recomputed ones are returned.
 * Rejects with GspoError BAD_TRACE (a trace that no step could have written), NON_FINITE, or the signal's reason.
 */
export async function replaySteps(
  workshop: Workshop,
  state: TrainerState,
  steps: readonly StepTrace[],
  { resample = [], recompute, rescore = true }: Omit<ReplayOptions, 'signal'>,
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
      const scores = await recomputeScores(workshop, step, recompute?.[index], signal)
      const resampled = await resampleGroups(workshop, step, resample[index] ?? [], signal)
      const scored = performance.now()
      const expected = await expectedGroups(workshop, current, step, { scores, resampled, rescore }, signal)
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
  /** By group: one entry a completion. */
  readonly scores: ReadonlyMap<number, readonly TokenScores[]>
  /** By group. */
  readonly resampled: ReadonlyMap<number, readonly Int32Array[]>
  readonly rescore: boolean
}

/** Samples groups again with the draws their step had. Throws BAD_TRACE for a group that does not exist. */
async function resampleGroups(
  workshop: Workshop,
  step: StepTrace,
  indices: readonly number[],
  signal: AbortSignal,
): Promise<Map<number, Int32Array[]>> {
  const prompts = indices.map((index) => {
    const { dataPosition, promptIds } = groupAt(step, index)
    return { position: dataPosition, ids: promptIds }
  })
  const groups = await rollout(workshop.policy, prompts, rolloutOptionsOf(workshop, signal))
  return new Map(indices.map((index, place) => [index, (groups[place] ?? []).map(({ tokens }) => tokens)]))
}

/** Teacher-forced scores of the chosen groups' completions, of all groups when none are chosen. */
async function recomputeScores(
  { policy, config }: Workshop,
  step: StepTrace,
  chosen: readonly number[] | undefined,
  signal: AbortSignal,
): Promise<Map<number, TokenScores[]>> {
  const indices = chosen ?? [...step.groups.keys()]
  const groups = indices.map((index) => groupAt(step, index))
  const sequences = groups.flatMap(({ promptIds, completions }) =>
    completions.map(({ tokens }) => ({ promptIds, tokens })),
  )
  const scores = await scoreSequences(policy, sequences, { adapter: true, config }, signal)
  let next = 0
  return new Map(
    indices.map((index, place) => {
      const count = groups[place]?.completions.length ?? 0
      next += count
      return [index, scores.slice(next - count, next)]
    }),
  )
}

/** Throws BAD_TRACE for a group that does not exist. */
function groupAt(step: StepTrace, index: number): TracedGroup {
  const group = step.groups[index]
  if (group === undefined)
    throw new GspoError('BAD_TRACE', `group ${index} was asked for, the step has ${step.groups.length}`)
  return group
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
  const scored = recomputed.rescore
    ? await scoreSamples(samples, rewards, signal)
    : { rewards: [], components: [] }
  const rewardIsDeterministic = rewards.every(({ reward }) => reward.deterministic)
  let next = 0
  return step.groups.map(({ completions }, index) => ({
    expectedDataPosition: state.dataPosition + index,
    expectedPromptIds: tokenizer.encodePrompt(rows[index]?.prompt ?? ''),
    resampled: recomputed.resampled.get(index) ?? null,
    completions: completions.map((_, row) => {
      const place = next++
      const scores = recomputed.scores.get(index)?.[row]
      return {
        logps: scores?.logps ?? new Float32Array(0),
        entropies: scores?.entropies ?? new Float32Array(0),
        reward: scored.rewards[place] ?? NaN,
        components: scored.components[place] ?? [],
        rewardIsDeterministic,
      }
    }),
  }))
}
