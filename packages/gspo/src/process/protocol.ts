/** The messages between spawnTrainer and its child, structured-cloned over the fork's channel. Types and error codec. */
import type { GSPOConfig } from '../config.ts'
import { GspoError } from '../errors.ts'
import type { GspoErrorCode } from '../errors.ts'
import type { StepTrace } from '../trace/types.ts'
import type {
  EvaluateOptions,
  Evaluation,
  ReplayedStep,
  ReplayOptions,
  StepRecord,
  TrainerInfo,
} from '../trainer-types.ts'

/** What each call takes and gives; signals travel as `cancel` messages. */
export interface TrainerCalls {
  open: { argument: GSPOConfig; result: TrainerInfo }
  step: { argument: null; result: StepRecord }
  replay: {
    argument: { steps: readonly StepTrace[] } & Omit<ReplayOptions, 'signal'>
    result: ReplayedStep[]
  }
  readAdapter: { argument: null; result: Float32Array }
  writeAdapter: { argument: Float32Array; result: null }
  evaluate: { argument: Omit<EvaluateOptions, 'signal'>; result: Evaluation }
  exportState: { argument: null; result: Uint8Array }
  importState: { argument: Uint8Array; result: null }
  exportAdapter: { argument: string; result: null }
  close: { argument: null; result: null }
}

/** Names of the calls. */
export type CallName = keyof TrainerCalls

/** A call, as the parent sends it. */
export type CallMessage = {
  [Name in CallName]: { kind: 'call'; id: number; name: Name; argument: TrainerCalls[Name]['argument'] }
}[CallName]

/** Parent to child. */
export type ParentMessage = CallMessage | { kind: 'cancel'; id: number }

/** Child to parent. */
export type ChildMessage =
  { kind: 'result'; id: number; result: unknown } | { kind: 'failure'; id: number; error: SentError }

/** An error as plain fields: structured clone would drop `code`. */
export interface SentError {
  readonly code: GspoErrorCode | null
  readonly message: string
  readonly stack: string
}

/** Packs any thrown value. */
export function packError(error: unknown): SentError {
  if (error instanceof GspoError)
    return { code: error.code, message: error.message, stack: error.stack ?? '' }
  if (error instanceof Error) return { code: null, message: error.message, stack: error.stack ?? '' }
  return { code: null, message: String(error), stack: '' }
}

/** The error on the parent's side; one without a code was not foreseen and becomes ENGINE_FAILED. */
export function unpackError({ code, message, stack }: SentError): GspoError {
  return new GspoError(code ?? 'ENGINE_FAILED', message, {
    cause: new Error(`in the engine process: ${stack}`),
  })
}
