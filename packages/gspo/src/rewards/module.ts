/** Reward functions from a user's own TypeScript or JavaScript module: its default export, one or several. */
import { basename, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { GspoError } from '../errors.ts'
import type { BatchReward, RewardCall, RewardFunction, RewardSample, SampleReward, Score } from './types.ts'

/** Loads the default export of `path`. Throws GspoError BAD_REWARD (missing, does not load, exports something else). */
export async function loadRewardModule(path: string): Promise<RewardFunction[]> {
  const file = resolve(path)
  const loaded = await importModule(file)
  const exported =
    typeof loaded === 'object' && loaded !== null && 'default' in loaded ? loaded.default : undefined
  const entries: unknown[] = Array.isArray(exported) ? exported : [exported]
  if (entries.length === 0) throw new GspoError('BAD_REWARD', `${file}: the default export is an empty list`)
  return entries.map((entry, index) => {
    const fallback = entries.length === 1 ? basename(file) : `${basename(file)}#${index + 1}`
    if (isSampleReward(entry))
      return fromSampleReward(entry.name === 'default' || entry.name === '' ? fallback : entry.name, entry)
    if (isBatchReward(entry)) return fromBatchReward(entry.name ?? fallback, entry)
    throw new GspoError(
      'BAD_REWARD',
      `${file}: the default export${entries.length > 1 ? ` (entry ${index + 1})` : ''} is ${typeof entry}, expected a function (sample) => number, or { batch(samples) }, or a list of these`,
    )
  })
}

async function importModule(file: string): Promise<unknown> {
  try {
    return (await import(pathToFileURL(file).href)) as unknown
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new GspoError('BAD_REWARD', `cannot load the reward module ${file}: ${reason}`, { cause })
  }
}

function isSampleReward(value: unknown): value is SampleReward {
  return typeof value === 'function'
}

function isBatchReward(value: unknown): value is BatchReward {
  return typeof value === 'object' && value !== null && 'batch' in value && typeof value.batch === 'function'
}

/** A user's function of one sample: all samples at once, each failing, or being late, for itself. */
function fromSampleReward(name: string, reward: SampleReward): RewardFunction {
  const scoreOne = async (
    sample: RewardSample,
    call: RewardCall,
    late: Promise<never>,
  ): Promise<Score | Error> => {
    try {
      return await Promise.race([reward(sample, call), late])
    } catch (cause) {
      return cause instanceof Error ? cause : new Error(String(cause))
    }
  }
  return {
    name,
    deterministic: false,
    score: (samples, call) => {
      const { promise: late, reject } = Promise.withResolvers<never>()
      late.catch(() => undefined) // nobody waits for it when all are in time
      call.signal.addEventListener('abort', () => reject(call.signal.reason as Error), { once: true })
      return Promise.all(samples.map((sample) => scoreOne(sample, call, late)))
    },
  }
}

function fromBatchReward(name: string, reward: BatchReward): RewardFunction {
  return {
    name,
    deterministic: reward.deterministic === true,
    async score(samples, call) {
      const scores: unknown = await reward.batch(samples, call)
      if (!Array.isArray(scores) || scores.length !== samples.length)
        throw new Error(
          `returned ${Array.isArray(scores) ? `${scores.length} scores` : typeof scores} for ${samples.length} samples`,
        )
      return scores as Score[]
    },
  }
}
