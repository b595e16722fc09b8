/** The catalogue of what history stores over time: each series, its table, its column's value and its unit. */
import type { StepStats } from '@gym-node/gspo'
import type { RoundStatus } from '../status.ts'

/** The two clocks of training; also the names of the tables. */
export type SeriesAxis = 'step' | 'round'

/** One series over local steps. */
interface StepSeries {
  readonly axis: 'step'
  readonly unit: string
  readonly value: (stats: StepStats) => number
}

/** One series over committed rounds. */
interface RoundSeries {
  readonly axis: 'round'
  readonly unit: string
  readonly value: (round: RoundStatus) => number
}

/** Series over steps; the keys are the columns of the `step` table, in this order. */
export const STEP_SERIES = {
  reward_mean: { axis: 'step', unit: 'reward', value: (s) => s.rewardMean },
  reward_std: { axis: 'step', unit: 'reward', value: (s) => s.rewardStd },
  loss: { axis: 'step', unit: 'loss', value: (s) => s.loss },
  clip_ratio_low: { axis: 'step', unit: 'ratio', value: (s) => s.clipRatioLow },
  clip_ratio_high: { axis: 'step', unit: 'ratio', value: (s) => s.clipRatioHigh },
  importance_ratio: { axis: 'step', unit: 'ratio', value: (s) => s.ratioMean },
  kl: { axis: 'step', unit: 'nats', value: (s) => s.kl },
  entropy: { axis: 'step', unit: 'nats', value: (s) => s.entropy },
  gradient_norm: { axis: 'step', unit: 'norm', value: (s) => s.gradNorm },
  learning_rate: { axis: 'step', unit: 'rate', value: (s) => s.learningRate },
  completion_length: { axis: 'step', unit: 'tokens', value: (s) => s.completionLengthMean },
  truncated_ratio: { axis: 'step', unit: 'ratio', value: (s) => s.truncatedFraction },
  zero_variance_ratio: { axis: 'step', unit: 'ratio', value: (s) => s.zeroVarianceFraction },
  tokens_per_second: { axis: 'step', unit: 'tokens/s', value: (s) => s.tokensPerSecond },
  step_seconds: { axis: 'step', unit: 's', value: (s) => s.seconds.total },
  rollout_seconds: { axis: 'step', unit: 's', value: (s) => s.seconds.rollout },
} as const satisfies Record<string, StepSeries>

/** Series over rounds; the keys are the columns of the `round` table, in this order. */
export const ROUND_SERIES = {
  all_reduce_seconds: { axis: 'round', unit: 's', value: (r) => r.duration_ms / 1000 },
  round_bytes_sent: { axis: 'round', unit: 'bytes', value: (r) => r.bytes_sent },
  round_bytes_received: { axis: 'round', unit: 'bytes', value: (r) => r.bytes_received },
  round_attempts: { axis: 'round', unit: 'attempts', value: (r) => r.attempts },
  round_contributors: { axis: 'round', unit: 'nodes', value: (r) => r.contributors.length },
} as const satisfies Record<string, RoundSeries>

/** Name of a series, as in `/api/history?series=`. */
export type SeriesName = keyof typeof STEP_SERIES | keyof typeof ROUND_SERIES

/** All names, in the order of the catalogue. */
export const SERIES_NAMES: readonly SeriesName[] = [...stepNames(), ...roundNames()]

/** Columns of the `step` table. */
export function stepNames(): (keyof typeof STEP_SERIES)[] {
  return Object.keys(STEP_SERIES) as (keyof typeof STEP_SERIES)[]
}

/** Columns of the `round` table. */
export function roundNames(): (keyof typeof ROUND_SERIES)[] {
  return Object.keys(ROUND_SERIES) as (keyof typeof ROUND_SERIES)[]
}

/** Whether `name` is in the catalogue; only such names ever reach SQL. */
export function isSeriesName(name: string): name is SeriesName {
  return Object.hasOwn(STEP_SERIES, name) || Object.hasOwn(ROUND_SERIES, name)
}

/** The axis and unit of a series. */
export function seriesMeta(name: SeriesName): { axis: SeriesAxis; unit: string } {
  const found: StepSeries | RoundSeries = { ...STEP_SERIES, ...ROUND_SERIES }[name]
  return { axis: found.axis, unit: found.unit }
}
