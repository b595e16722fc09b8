/** What a reward function is given and gives back. Types only. */
import type { ChatMessage } from '../data/dataset.ts'

/** One completion to score. */
export interface RewardSample {
  /** The data set's prompt, as text or messages. */
  readonly prompt: string | readonly ChatMessage[]
  /** The completion's text, special tokens left out. */
  readonly completion: string
  /** The row's `answer`, as text. */
  readonly answer: string | undefined
  /** All columns of the row. */
  readonly columns: Readonly<Record<string, unknown>>
  /** Length of the completion in tokens, the end token included. */
  readonly tokens: number
  /** Whether the completion ended by itself rather than at the length limit. */
  readonly finished: boolean
}

/** What a call of a reward function may use. */
export interface RewardCall {
  /** Fires when the step is cancelled or the call's deadline passes. */
  readonly signal: AbortSignal
}

/** A score, or null where the sample cannot be scored. NaN and infinities count as a failure. */
export type Score = number | null

/** A loaded reward function. */
export interface RewardFunction {
  /** Shown in statistics and failures. */
  readonly name: string
  /** Whether the same sample always gets the same score, so that a replay may compare. */
  readonly deterministic: boolean
  /**
   * One score a sample, in order. An Error in the place of a score marks that sample as failed; a rejection marks
   * all of them.
   */
  score(samples: readonly RewardSample[], call: RewardCall): Promise<(Score | Error)[]>
  /** Whether `score` ends soon after the call's signal whatever happens, so that the scores it has then are waited for. */
  readonly endsItself?: boolean
  /** Gives back what it holds; idempotent. */
  close?(): Promise<void>
}

/** A reward function written by a user, one sample a call. */
export type SampleReward = (sample: RewardSample, call: RewardCall) => Score | Promise<Score>

/** A reward function written by a user that scores many samples in one call. */
export interface BatchReward {
  readonly name?: string
  /** Declares that equal samples get equal scores; false when left out. */
  readonly deterministic?: boolean
  readonly batch: (samples: readonly RewardSample[], call: RewardCall) => Score[] | Promise<Score[]>
}

/** What a user's reward module exports by default: one function or several. */
export type RewardModule = SampleReward | BatchReward | readonly (SampleReward | BatchReward)[]
