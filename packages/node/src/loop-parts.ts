/** What the loop of rounds works with, and hands out. No behaviour. */
import type { StepStats, Trainer } from '@gym-node/gspo'
import type { Ring, View } from '@gym-node/ring'
import type { JobState } from './state/job-state.ts'
import type { TraceFile } from './state/trace-file.ts'
import type { DaemonEvent } from './status.ts'
import type { RoundRecord } from './validate/round-records.ts'

/** A delta as the loop hands it to be signed and stored. */
export interface DeltaToWrite {
  readonly round: number
  readonly view: View
  readonly steps: readonly StepStats[]
  /** SHA3-256 (hex) of the round's trace file; null when none is kept. */
  readonly traceSha3: string | null
  /** Adapter after the local steps minus the adapter at the round's start, in the adapter's layout. */
  readonly values: Float32Array
  /** What this node's deltas have lost so far and this one sends, in the adapter's layout; null when nothing. */
  readonly residual: Float32Array | null
  readonly weight: number
  /** The adapter at the round's start and after the local steps. */
  readonly adapterBefore: Float32Array
  readonly adapterAfter: Float32Array
  /** The trainer's state at the round's start and after the local steps. */
  readonly stateBefore: Uint8Array
  readonly stateAfter: Uint8Array
}

/** A delta as it was signed. */
export interface WrittenDelta {
  /** 32 bytes that bind this node to the file. */
  readonly commitment: Uint8Array
  /** What every reader of the file gets, and the ring averages: the values after the rounding of the file's dtype. */
  readonly sent: Float32Array
  /** What the rounding lost; null when nothing. */
  readonly residual: Float32Array | null
}

/** What the loop works with. */
export interface LoopParts {
  readonly ring: Ring
  readonly trainer: Trainer
  readonly state: JobState
  readonly aggregateInterval: number
  /**
   * Delayed averaging: the local steps of the next round run while this one is reduced, so they start from the state
   * before it, and their delta is applied one round late.
   */
  readonly overlap: boolean
  /** Members that the ring needs before it trains; only said, the ring itself sees to it. */
  readonly minMembers: number
  /** Committed rounds after which to end; null for no limit. */
  readonly rounds: number | null
  /** Opens the round's trace, with the steps that an interrupted run of it left; null when traces are not kept. */
  readonly openTrace: (round: number, stateBefore: Uint8Array) => Promise<TraceFile | null>
  /** Makes the delta durable before it is offered to the ring. */
  readonly writeDelta: (delta: DeltaToWrite) => Promise<WrittenDelta>
  /** Keeps what validators ask about a committed round. */
  readonly recordRound: (record: RoundRecord) => Promise<void>
  readonly emit: (event: DaemonEvent) => void
  /** Ends waiting and local steps. */
  readonly stop: AbortSignal
  /** Ends an all-reduce in progress too; comes after `stop`. */
  readonly abandon: AbortSignal
  /** Ends the loop at the next boundary of a round. */
  readonly pause: AbortSignal
}
