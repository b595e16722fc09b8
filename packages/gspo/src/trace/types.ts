/** The record of one step: everything its optimiser updates consumed, so that they can be computed again. Types only. */
import type { FinishReason } from '../rollout/rollout.ts'

/** One sampled completion. */
export interface TracedCompletion {
  readonly tokens: Int32Array
  /** Logprob of each token under the policy that sampled it: exactly what the loss used as the old policy. */
  readonly logps: Float32Array
  readonly finish: FinishReason
  /** Weighted reward; NaN where the completion could not be scored. */
  readonly reward: number
  /** Each reward function's unweighted score; NaN where it gave none. */
  readonly components: readonly number[]
}

/** The completions of one prompt. */
export interface TracedGroup {
  /** Global position in the shuffled data. */
  readonly dataPosition: number
  readonly promptIds: Int32Array
  readonly completions: readonly TracedCompletion[]
}

/** One step's record. */
export interface StepTrace {
  /** Number of the step, 1 for the first one. */
  readonly step: number
  readonly seed: number
  readonly groups: readonly TracedGroup[]
}
