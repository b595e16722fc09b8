/**
 * Computing steps again from their traces: the same updates as the steps that wrote them, bit for bit on the same
 * engine, and beside them what the trace should have held (positions, prompts, logprobs, rewards). It reports; the
 * caller judges.
 */
import type { TrainerState } from './checkpoint/state.ts'
import { createDataOrder } from './data/order.ts'
import { GspoError } from './errors.ts'
import { learn } from './learn.ts'
import type { TokenScores } from './policy-types.ts'
import { compareDraws, isFiltered, resampleGroups } from './redraw.ts'
import { rewardSampleOf } from './rollout/score-rollout.ts'
import { scoreSamples } from './rewards/score.ts'
import { describeStep } from './stats.ts'
import { drawScoresOf, scoreSequences } from './teacher-forcing.ts'
import { checkTrace } from './trace/check.ts'
import type { StepTrace, TracedGroup } from './trace/types.ts'
import type { RedrawnCompletion, ReplayedStep, ReplayOptions } from './trainer-types.ts'
import type { Workshop } from './workshop.ts'

/**
 * Replays steps from `state`. The updates use the traced rewards and logprobs; the recomputed ones are returned.
 * Rejects with GspoError BAD_TRACE (a trace that no step could have written), NON_FINITE, or the signal's reason.
 */
export async function replaySteps(
  loaded: Workshop,
  state: TrainerState,
  steps: readonly StepTrace[],
  { resample = [], recompute, rescore = true, seed }: Omit<ReplayOptions, 'signal'>,
  signal: AbortSignal,
): Promise<{ replayed: ReplayedStep[]; after: TrainerState }> {
  const workshop = seed === undefined ? loaded : withSeed(loaded, seed)
  const { policy, config } = workshop
  for (const step of steps) checkTrace(step, config, policy.model)
  const replayed: ReplayedStep[] = []
  let current = state
  try {
    for (const [index, step] of steps.entries()) {
      const started = performance.now()
      policy.setAdapter(current.adapter)
      const asked = { recompute: recompute?.[index], redraw: resample[index] ?? [] }
      const looked = await lookAgain(workshop, step, asked, signal)
      const scored = performance.now()
      const learned = await learn(policy, current, step, config, signal)
      const learnedAt = performance.now()
      const found = { ...looked, learned: learned.scores, rescore }
      const expected = await expectedGroups(workshop, current, step, found, signal)
      const seconds = {
        rollout: (scored - started) / 1000,
        reward: (performance.now() - learnedAt) / 1000,
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

/** The same model, data and rewards as a worker with another seed sees them. */
function withSeed(workshop: Workshop, seed: number): Workshop {
  const { config, dataset } = workshop
  if (seed === config.seed) return workshop
  const order = createDataOrder(dataset.rows.length, seed, config.shuffle_dataset)
  return { ...workshop, config: { ...config, seed }, order }
}

/** What the policy before the step says of the groups that were asked for. */
interface LookedAt {
  /** By group: one entry a completion. */
  readonly scores: ReadonlyMap<number, readonly TokenScores[]>
  /** By group. */
  readonly redrawn: ReadonlyMap<number, readonly RedrawnCompletion[]>
}

/** Everything known of the traced tokens after the updates. */
interface Found extends LookedAt {
  /** Of the completions in the first update's loss, by their place in the rollout. */
  readonly learned: ReadonlyMap<number, TokenScores>
  readonly rescore: boolean
}

/** Scores the chosen groups (all when none are) and repeats the draws of others, in one pass over both where it can. */
async function lookAgain(
  workshop: Workshop,
  step: StepTrace,
  { recompute, redraw }: { recompute: readonly number[] | undefined; redraw: readonly number[] },
  signal: AbortSignal,
): Promise<LookedAt> {
  const { policy, config } = workshop
  const recomputed = recompute ?? [...step.groups.keys()]
  // A server's draws are its own: no seed leads to them.
  const repeated = config.rollout_server === undefined ? redraw : []
  if (isFiltered(config)) {
    const scores = await scoreGroups(step, recomputed, (sequences) =>
      scoreSequences(policy, sequences, { adapter: true, config }, signal),
    )
    const again = await resampleGroups(
      workshop,
      repeated.map((index) => groupAt(step, index)),
      signal,
    )
    return { scores, redrawn: new Map(repeated.map((index, place) => [index, again[place] ?? []])) }
  }
  const indices = [...new Set([...recomputed, ...repeated])].sort((left, right) => left - right)
  const draws = await scoreGroups(step, indices, (sequences) =>
    drawScoresOf(policy, sequences, config, signal),
  )
  const wanted = new Set(recomputed)
  return {
    scores: new Map([...draws].filter(([index]) => wanted.has(index))),
    redrawn: new Map(
      repeated.map((index) => [index, compareDraws(groupAt(step, index), draws.get(index) ?? [], config)]),
    ),
  }
}

/** Scores of some groups' completions, by group. */
async function scoreGroups<T>(
  step: StepTrace,
  indices: readonly number[],
  score: (sequences: { promptIds: Int32Array; tokens: Int32Array }[]) => Promise<T[]>,
): Promise<Map<number, T[]>> {
  const groups = indices.map((index) => groupAt(step, index))
  const scores = await score(
    groups.flatMap(({ promptIds, completions }) => completions.map(({ tokens }) => ({ promptIds, tokens }))),
  )
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
  found: Found,
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
  const scored = found.rescore
    ? await scoreSamples(samples, rewards, signal)
    : { rewards: [], components: [] }
  const rewardIsDeterministic = rewards.every(({ reward }) => reward.deterministic)
  let next = 0
  return step.groups.map(({ completions }, index) => ({
    expectedDataPosition: state.dataPosition + index,
    expectedPromptIds: tokenizer.encodePrompt(rows[index]?.prompt ?? ''),
    isRecomputed: found.scores.has(index),
    redrawn: found.redrawn.get(index) ?? null,
    completions: completions.map((_, row) => {
      const place = next++
      const scores = found.scores.get(index)?.[row] ?? found.learned.get(place)
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
