/** The messages between a reward module's thread and the trainer. Types, and where the thread says what it runs. */
import type { RewardSample, Score } from './types.ts'

/** What the thread is started with. */
export interface ModuleThreadStart {
  readonly file: string
  /** RUNNING_CALL and RUNNING_SAMPLE, written before each call of the user's code: readable while that never returns. */
  readonly running: Int32Array
}

/** Place in `running` of the call whose function was entered last. */
export const RUNNING_CALL = 0
/** Place in `running` of its sample; -1 for a batch function, which has all of them. */
export const RUNNING_SAMPLE = 1

/** Trainer to thread. `stop` ends a call: what has a score keeps it, the rest is late. */
export type ToModuleThread =
  | {
      readonly kind: 'score'
      readonly call: number
      /** Place of the function in the module's list. */
      readonly reward: number
      readonly samples: readonly RewardSample[]
    }
  | { readonly kind: 'stop'; readonly call: number; readonly reason: string }

/** A score as it travels: an error is its message. */
export type SentScore = Score | { readonly error: string }

/** Thread to trainer. A call gets a `scored` for each sample it has a score for, then `done`. */
export type FromModuleThread =
  | {
      readonly kind: 'loaded'
      readonly rewards: readonly { readonly name: string; readonly deterministic: boolean }[]
    }
  | { readonly kind: 'refused'; readonly message: string }
  | {
      readonly kind: 'scored'
      readonly call: number
      readonly sample: number
      readonly score: SentScore
    }
  /** `error` holds for every sample without a score of its own. */
  | { readonly kind: 'done'; readonly call: number; readonly error: string | null }
