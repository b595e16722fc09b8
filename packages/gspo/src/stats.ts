/** The statistics of a step from its trace and its updates. */
import { momentsOf } from './advantages.ts'
import type { Learned } from './learn.ts'
import type { WeightedReward } from './rewards/score.ts'
import type { StepTrace, TracedCompletion } from './trace/types.ts'
import type { StepStats } from './trainer-types.ts'

/** Seconds that the learning did not measure itself. */
export interface StepSeconds {
  readonly rollout: number
  readonly reward: number
  readonly total: number
}

/** A group counts as without signal when its rewards deviate less than this: TRL's tolerance of `isclose(std, 0)`. */
const ZERO_DEVIATION = 1e-8

/** Statistics of one step. */
export function describeStep(
  trace: StepTrace,
  { stats, advantages }: Pick<Learned, 'stats' | 'advantages'>,
  rewards: readonly WeightedReward[],
  seconds: StepSeconds,
): StepStats {
  const completions = trace.groups.flatMap((group) => group.completions)
  const lengths = completions.map(({ tokens }) => tokens.length)
  const generatedTokens = lengths.reduce((sum, length) => sum + length, 0)
  const promptTokens = trace.groups.reduce((sum, { promptIds }) => sum + promptIds.length, 0)
  const total = Math.max(1, completions.length)
  return {
    step: trace.step,
    loss: stats.loss,
    rewardMean: meanOrZero(completions.map(({ reward }) => reward)),
    rewardStd: momentsOf(completions.map(({ reward }) => reward)).deviation || 0,
    clipRatioLow: stats.clipRatioLow,
    clipRatioHigh: stats.clipRatioHigh,
    kl: stats.kl,
    entropy: stats.entropy,
    gradNorm: stats.gradNorm,
    learningRate: stats.learningRate,
    ratioMean: stats.ratioMean,
    completionLengthMean: generatedTokens / total,
    completionLengthMin: lengths.reduce((least, length) => Math.min(least, length), Infinity),
    completionLengthMax: lengths.reduce((most, length) => Math.max(most, length), 0),
    truncatedFraction: completions.filter(({ finish }) => finish === 'length').length / total,
    zeroVarianceFraction:
      advantages.groupDeviations.filter((deviation) => deviation < ZERO_DEVIATION).length /
      Math.max(1, trace.groups.length),
    unscorable: completions.filter(({ reward }) => Number.isNaN(reward)).length,
    groups: trace.groups.length,
    completions: completions.length,
    promptTokens,
    generatedTokens,
    tokensPerSecond: generatedTokens / Math.max(1e-9, seconds.total),
    peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    rewardMeans: rewards.map(({ reward }, place) => ({
      name: reward.name,
      mean: meanOfComponent(completions, place),
    })),
    seconds: {
      rollout: seconds.rollout,
      reward: seconds.reward,
      forwardBackward: stats.forwardBackwardSeconds,
      optimizer: stats.optimizerSeconds,
      total: seconds.total,
    },
  }
}

function meanOfComponent(completions: readonly TracedCompletion[], place: number): number {
  return meanOrZero(completions.map(({ components }) => components[place] ?? NaN))
}

function meanOrZero(values: readonly number[]): number {
  const { mean } = momentsOf(values)
  return Number.isNaN(mean) ? 0 : mean
}
