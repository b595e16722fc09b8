/**
 * Scoring a batch with all configured rewards: weighted sums, and failures that name their sample. A reward that
 * throws, is late, or is not a finite number makes its sample unscorable (NaN); it never stops the run.
 */
import type { RewardFunction, RewardSample } from './types.ts'

/** Largest score times weight: a sum of such, its square and its advantage in float32 stay finite. */
const MAX_WEIGHTED_SCORE = 1e30

/** A reward function with its weight in the sum and the deadline of one call. */
export interface WeightedReward {
  readonly reward: RewardFunction
  readonly weight: number
  readonly timeoutMs: number
}

/** Why a sample could not be scored. */
export interface RewardFailure {
  /** Place in the scored batch. */
  readonly sample: number
  readonly reward: string
  readonly message: string
}

/** Scores of a batch. */
export interface ScoredBatch {
  /** Weighted sum a sample; NaN where it is unscorable. */
  readonly rewards: Float64Array
  /** For each sample the unweighted score of each reward function; NaN where it gave none. */
  readonly components: number[][]
  readonly failures: RewardFailure[]
}

/**
 * Scores every sample with every reward. A null score drops out of its sample's sum (another reward may apply to
 * that row); a sample with only nulls is unscorable. Rejects only when `signal` fires.
 */
export async function scoreSamples(
  samples: readonly RewardSample[],
  rewards: readonly WeightedReward[],
  signal: AbortSignal,
): Promise<ScoredBatch> {
  const sums = new Float64Array(samples.length)
  const components: number[][] = samples.map(() => [])
  const failures: RewardFailure[] = []
  const columns = await Promise.all(rewards.map((weighted) => callReward(weighted, samples, signal)))
  signal.throwIfAborted()
  const failed = new Set<number>()
  const scored = new Set<number>()
  for (const [place, weighted] of rewards.entries()) {
    for (let sample = 0; sample < samples.length; sample++) {
      const score = columns[place]?.[sample]
      const valid = typeof score === 'number' && Math.abs(weighted.weight * score) <= MAX_WEIGHTED_SCORE
      components[sample]?.push(valid ? score : NaN)
      if (valid) {
        sums[sample] = (sums[sample] ?? 0) + weighted.weight * score
        scored.add(sample)
      } else if (score !== null) {
        failed.add(sample)
        failures.push({ sample, reward: weighted.reward.name, message: describeFailure(score) })
      }
    }
  }
  for (let sample = 0; sample < samples.length; sample++)
    if (failed.has(sample) || !scored.has(sample)) sums[sample] = NaN
  return { rewards: sums, components, failures }
}

/** One reward's scores; a rejection becomes an Error for every sample, a missed deadline for those without a score. */
async function callReward(
  { reward, timeoutMs }: WeightedReward,
  samples: readonly RewardSample[],
  signal: AbortSignal,
): Promise<readonly unknown[]> {
  const deadline = new AbortController()
  const call = { signal: AbortSignal.any([signal, deadline.signal]) }
  const { promise: ended, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    const late = new Error(`no answer within ${timeoutMs} ms`)
    deadline.abort(late)
    // One that ends itself gives what it has; nobody else is waited for.
    if (reward.endsItself !== true) reject(late)
  }, timeoutMs)
  const cancel = (): void => reject(new Error('cancelled'))
  signal.addEventListener('abort', cancel, { once: true })
  try {
    return await Promise.race([reward.score(samples, call), ended])
  } catch (cause) {
    const error = cause instanceof Error ? cause : new Error(String(cause))
    return samples.map(() => error)
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', cancel)
  }
}

function describeFailure(score: unknown): string {
  if (score instanceof Error) return score.message
  return `returned ${typeof score === 'number' ? String(score) : typeof score}, expected null or a number that is ${MAX_WEIGHTED_SCORE} at most with its weight`
}

/** Gives back what the rewards hold; idempotent. */
export async function closeRewards(rewards: readonly WeightedReward[]): Promise<void> {
  for (const { reward } of rewards) await reward.close?.()
}
