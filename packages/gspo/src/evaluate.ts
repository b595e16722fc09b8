/** Completing a held-out data set, greedily or by sampling, and scoring it. Changes no state and draws from its own stream. */
import { momentsOf } from './advantages.ts'
import { loadDataset } from './data/dataset.ts'
import { GspoError } from './errors.ts'
import { scoreSamples } from './rewards/score.ts'
import { rollout, rolloutOptionsOf } from './rollout/rollout.ts'
import { rewardSampleOf } from './rollout/score-rollout.ts'
import { STREAM } from './sampling/philox.ts'
import type { EvaluateOptions, Evaluation } from './trainer-types.ts'
import type { Workshop } from './workshop.ts'

/**
 * Evaluates the current adapter on `options.dataset`. Throws BAD_OPTION, FILE_MISSING, BAD_DATASET; rejects when
 * `signal` fires.
 */
export async function evaluateDataset(
  workshop: Workshop,
  options: EvaluateOptions,
  signal: AbortSignal,
): Promise<Evaluation> {
  const { policy, tokenizer, rewards } = workshop
  checkOptions(options)
  const { rows: allRows } = await loadDataset([options.dataset])
  const rows = allRows.slice(0, options.limit ?? allRows.length)
  const prompts = rows.map((row, position) => ({ position, ids: tokenizer.encodePrompt(row.prompt), row }))
  const train = rolloutOptionsOf(workshop, signal)
  const groups = await rollout(policy, prompts, {
    ...train,
    groupSize: 1,
    sampling: options.mode === 'greedy' ? null : train.sampling,
    seed: options.seed ?? 0,
    stream: STREAM.evaluate,
  })
  const samples = prompts.flatMap(({ row }, index) =>
    (groups[index] ?? []).map((completion) => rewardSampleOf(workshop, row, completion)),
  )
  const scored = await scoreSamples(samples, rewards, signal)
  const { mean } = momentsOf(scored.rewards)
  const correct = samples.filter(
    ({ completion, answer }) => answer !== undefined && completion.trim() === answer.trim(),
  ).length
  return {
    samples: samples.length,
    rewardMean: Number.isNaN(mean) ? 0 : mean,
    accuracy: correct / Math.max(1, samples.length),
    completionLengthMean: samples.reduce((sum, { tokens }) => sum + tokens, 0) / Math.max(1, samples.length),
  }
}

/** Callers in JavaScript have no types: a mode that is misspelt must not sample, a negative limit not drop the last rows. */
function checkOptions({ mode, limit, seed }: EvaluateOptions): void {
  const seen: unknown = mode
  if (seen !== 'greedy' && seen !== 'sample')
    throw new GspoError(
      'BAD_OPTION',
      `evaluate: mode is ${JSON.stringify(seen)}, expected "greedy" or "sample"`,
    )
  if (limit !== undefined && !(Number.isSafeInteger(limit) && limit >= 1))
    throw new GspoError(
      'BAD_OPTION',
      `evaluate: limit is ${limit}, expected a whole number of rows, 1 or more`,
    )
  if (seed !== undefined && !(Number.isSafeInteger(seed) && seed >= 0))
    throw new GspoError('BAD_OPTION', `evaluate: seed is ${seed}, expected a whole number, 0 or more`)
}
