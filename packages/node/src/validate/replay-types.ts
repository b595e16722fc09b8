/** What a replay is given and what it answers. Types only. */

import type { GSPOConfig, Trainer } from '@gym-node/gspo'
import type { AttestationPolicy, DeltaMetadata } from '@gym-node/wire'
import type { CheckResult } from './checks.ts'
import type { ReplayConfig } from './replay-config.ts'

/** Files about the residual, as far as they are there. */
export interface ResidualFiles {
  /** float32 bytes that were left over from the round before. */
  readonly before?: Uint8Array
  /** float32 bytes that this delta leaves over. */
  readonly after?: Uint8Array
  /** The worker's delta of the round before that the ring counted; null when it counted none. */
  readonly previousDelta?: Uint8Array | null
}

/** Names of the replay's checks, in the order in which they are made. */
export type ReplayCheckName =
  | 'signature'
  | 'binding'
  | 'attestation'
  | 'expected'
  | 'trace_hash'
  | 'trace_owner'
  | 'config'
  | 'base_state'
  | 'optimizer_state'
  | 'residual'
  | 'steps'
  | 'model'
  | 'dataset'
  | 'trace_form'
  | 'data_positions'
  | 'tokens'
  | 'sampling'
  | 'resampling'
  | 'rewards'
  | 'metadata'
  | 'adapter'
  | 'residual_after'

/** What the verifier knows from elsewhere; whatever is left out is not checked. */
export interface ReplayExpectations {
  readonly job?: string
  readonly round?: number
  readonly workerId?: string
  /** Body hash (hex) that the worker committed itself to before the round was summed. */
  readonly commitment?: string
  /** The weight with which the ring counted this worker's vector: the completions it claims to have sampled. */
  readonly weight?: number
  /** SHA3-256 (hex) of the adapter that the ring agreed on before the round; with overlap also of the one before that. */
  readonly adapterBefore?: string | readonly string[]
  /** The seed that this worker must use; `workerSeed(peerId)` in a ring of strangers. */
  readonly seed?: number
  /** The trainer's state after the worker's previous round, as replayed: its optimiser moments must go on. */
  readonly previousState?: Uint8Array
  readonly attestation?: AttestationPolicy
}

/** What is replayed. All byte strings come from the worker and are trusted in nothing. */
export interface ReplayInput {
  /** DELTA file. */
  readonly delta: Uint8Array
  /** Trace file of the round. */
  readonly trace: Uint8Array
  /** Trainer state at the round's start. */
  readonly base: Uint8Array
  /** Of a delta with error feedback: what it had left over from the round before, what it leaves over, and that round's delta. */
  readonly residual?: ResidualFiles
  /** The job's training configuration with this machine's model, data set and engine. */
  readonly config: GSPOConfig
  readonly expected?: ReplayExpectations
  readonly tolerance?: Partial<ReplayConfig>
  /** Draws the groups that are sampled again; must not be known to the worker. Default: fresh randomness. */
  readonly pick?: (below: number) => number
  /** Makes the trainer; default `spawnTrainer`. It is closed afterwards. */
  readonly openTrainer?: (config: GSPOConfig) => Promise<Trainer>
  readonly signal?: AbortSignal
}

/** How close the replayed delta came. */
export interface AdapterComparison {
  readonly isIdentical: boolean
  /** Whether the file's dtypes round. */
  readonly isLossy: boolean
  /**
   * |replayed - claimed| / |claimed|; of a lossy file the least change of the replayed delta after which it rounds to
   * the claimed one, by its norm.
   */
  readonly relativeError: number
  /** |claimed| / |replayed| along the replayed direction: 1 for an honest delta, k for one scaled by k. */
  readonly scale: number
  readonly worstTensor: string
}

/** The answer. */
export interface ReplayVerdict {
  /** No check failed, and the replay itself was made. */
  readonly ok: boolean
  readonly checks: readonly CheckResult<ReplayCheckName>[]
  readonly metadata: DeltaMetadata | null
  readonly comparison: AdapterComparison | null
  /** Trainer state after the replayed steps; the next round's `previousState`. Null when nothing was replayed. */
  readonly stateAfter: Uint8Array | null
  /** Seconds of the replay itself, without loading the model. */
  readonly seconds: number
}
