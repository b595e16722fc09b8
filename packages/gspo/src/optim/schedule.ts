/** Learning rate over optimiser updates: the schedules of Hugging Face transformers that reinforcement learning uses. Pure. */

/** Names as in transformers' `lr_scheduler_type`. */
export type LrSchedulerType = 'constant' | 'constant_with_warmup' | 'linear' | 'cosine'

/** What a schedule needs to know. */
export interface ScheduleOptions {
  readonly type: LrSchedulerType
  /** The peak, reached after warm-up. */
  readonly learningRate: number
  /** Optimiser updates of linear warm-up from 0; `constant` has none. */
  readonly warmupUpdates: number
  /** Optimiser updates of the whole run; `linear` and `cosine` reach 0 there. */
  readonly totalUpdates: number
}

/** The learning rate of update `update` (0 for the first one). */
export function learningRateAt(update: number, options: ScheduleOptions): number {
  const { type, learningRate, warmupUpdates, totalUpdates } = options
  if (type === 'constant') return learningRate
  if (update < warmupUpdates) return (learningRate * update) / Math.max(1, warmupUpdates)
  if (type === 'constant_with_warmup') return learningRate
  const progress = Math.min(1, (update - warmupUpdates) / Math.max(1, totalUpdates - warmupUpdates))
  if (type === 'linear') return learningRate * (1 - progress)
  return learningRate * 0.5 * (1 + Math.cos(Math.PI * progress))
}
