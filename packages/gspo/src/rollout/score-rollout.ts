/** From sampled completions to traced groups: text, rewards, failures that name their data position, samples to read. */
import type { DataRow } from '../data/dataset.ts'
import { MAX_REPORTED_REWARD_FAILURES } from '../defaults.ts'
import type { WeightedReward } from '../rewards/score.ts'
import { scoreSamples } from '../rewards/score.ts'
import type { RewardSample } from '../rewards/types.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { TracedGroup } from '../trace/types.ts'
import type { StepRewardFailure, StepSample } from '../trainer-types.ts'
import type { Completion, RolloutPrompt } from './rollout.ts'

/** A prompt with the row it comes from. */
export interface RowPrompt extends RolloutPrompt {
  readonly row: DataRow
}

/** A scored rollout. */
export interface ScoredRollout {
  readonly groups: TracedGroup[]
  readonly failures: StepRewardFailure[]
  readonly samples: StepSample[]
}

/** What scoring needs of a trainer. */
export interface Scoring {
  readonly tokenizer: Tokenizer
  readonly rewards: readonly WeightedReward[]
  readonly config: { readonly stop: readonly string[] }
}

/** What a reward function sees of a completion. A stop text is cut off, with what follows it. */
export function rewardSampleOf(
  scoring: Scoring,
  row: DataRow,
  completion: Omit<Completion, 'logps'>,
): RewardSample {
  let text = scoring.tokenizer.decode(completion.tokens)
  for (const stop of completion.finish === 'stop' ? scoring.config.stop : []) {
    const end = text.indexOf(stop)
    if (end >= 0) text = text.slice(0, end)
  }
  return {
    prompt: row.prompt,
    completion: text,
    answer: row.answer,
    columns: row.columns,
    tokens: completion.tokens.length,
    finished: completion.finish !== 'length',
  }
}

/** Scores all completions of a rollout. Rejects only when `signal` fires. */
export async function scoreRollout(
  scoring: Scoring,
  prompts: readonly RowPrompt[],
  groups: readonly (readonly Completion[])[],
  signal: AbortSignal,
): Promise<ScoredRollout> {
  const samples = prompts.flatMap(({ row }, index) =>
    (groups[index] ?? []).map((completion) => rewardSampleOf(scoring, row, completion)),
  )
  const scored = await scoreSamples(samples, scoring.rewards, signal)
  let next = 0
  const places: { dataPosition: number; completion: number }[] = []
  const traced = prompts.map(({ position, ids }, index): TracedGroup => ({
    dataPosition: position,
    promptIds: ids,
    completions: (groups[index] ?? []).map(({ tokens, logps, finish }, place) => {
      places.push({ dataPosition: position, completion: place })
      const sample = next++
      return {
        tokens,
        logps,
        finish,
        reward: scored.rewards[sample] ?? NaN,
        components: scored.components[sample] ?? [],
      }
    }),
  }))
  const failures = scored.failures
    .slice(0, MAX_REPORTED_REWARD_FAILURES)
    .map(({ sample, reward, message }) => ({
      dataPosition: places[sample]?.dataPosition ?? 0,
      completion: places[sample]?.completion ?? 0,
      reward,
      message,
    }))
  return { groups: traced, failures, samples: readableSamples(samples, scored.rewards) }
}

/** The best, the middle and the worst completion by reward. */
function readableSamples(samples: readonly RewardSample[], rewards: Float64Array): StepSample[] {
  const ranked = samples
    .map((sample, index) => ({ sample, reward: rewards[index] ?? NaN }))
    .filter(({ reward }) => !Number.isNaN(reward))
    .sort((a, b) => b.reward - a.reward)
  const chosen = new Set([ranked[0], ranked[ranked.length >> 1], ranked.at(-1)])
  return [...chosen].flatMap((entry) => {
    if (entry === undefined) return []
    const { prompt, completion } = entry.sample
    const text =
      typeof prompt === 'string'
        ? prompt
        : prompt.map(({ role, content }) => `${role}: ${content}`).join('\n')
    return [{ prompt: text, completion, reward: entry.reward }]
  })
}
