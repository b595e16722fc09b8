/**
 * What a daemon says about itself: the status document (`/status.json`, `gym-node status`) and the
 * events that make its history. Types and the list of states; the daemon fills them, `observe/` stores and shows them.
 */
import type { StepStats } from '@gym-node/gspo'
import type { Reachability } from '@gym-node/ring'
import type { DeltaDtype } from '@gym-node/wire'

/** Every state a daemon can be in; the metrics and the published schema list the same. */
export const DAEMON_STATES = [
  'starting',
  'waiting_for_peers',
  'syncing',
  'training',
  'reducing',
  'validating',
  'paused',
  'stopping',
  'failed',
] as const

/** What the daemon is doing now. */
export type DaemonState = (typeof DAEMON_STATES)[number]

/** A member of the view as this daemon sees it. */
export interface MemberStatus {
  readonly peer_id: string
  readonly state: 'self' | 'alive' | 'suspect' | 'lost'
  /** Last committed round the member has told us about; null before its first word. */
  readonly round: number | null
}

/** Every verdict on whether others can dial this node; listed here so that reading a status loads no libp2p. */
export const REACHABILITIES = [
  'unknown',
  'loopback',
  'public',
  'local',
  'relayed',
  'closed',
] as const satisfies readonly Reachability[]

/** What the node knows of its place in the network; counters since it joined. */
export interface NetworkStatus {
  readonly reachability: Reachability
  /** One sentence each: what was seen, and what to do about it (may be empty). */
  readonly seen: string
  readonly advice: string
  /** Relays that hold a place for this node. */
  readonly reservations: number
  readonly connections: number
  readonly relayed_connections: number
  readonly hole_punches: number
  /** Peers met, by how they were first heard of. */
  readonly found: Readonly<Record<string, number>>
  readonly dials: number
  readonly dial_failures: Readonly<Record<string, number>>
  /** How often a peer ran into a limit, by its name. */
  readonly limits: Readonly<Record<string, number>>
}

/** One committed all-reduce round. Times in milliseconds, sizes in bytes of this node. */
export interface RoundStatus {
  readonly round: number
  readonly epoch: number
  readonly duration_ms: number
  readonly bytes_sent: number
  readonly bytes_received: number
  readonly contributors: readonly string[]
  readonly attempts: number
  /** Hex SHA3-256 of the all-reduce's result. */
  readonly result_sha3_256: string
  /** Hex SHA3-256 of the adapter after the outer update. */
  readonly adapter_sha3_256: string
}

/** The last delta that this node signed. */
export interface DeltaStatus {
  readonly round: number
  /** Size of the file. */
  readonly bytes: number
  readonly dtype: DeltaDtype
  /** Norm of what the dtype lost, and the next delta will send, by the norm of what was to be sent. */
  readonly relative_error: number
}

/** A validator's verdict on a delta of some worker. */
export interface VerdictStatus {
  readonly round: number
  readonly worker_id: string
  readonly validator_id: string
  readonly result: 'accepted' | 'rejected' | 'unavailable'
  /** Names of the checks that failed. */
  readonly failed: readonly string[]
}

/** The document behind `/status.json`; its JSON schema is published in docs. */
export interface DaemonStatus {
  readonly schema: 1
  readonly version: string
  readonly pid: number
  readonly peer_id: string
  readonly role: string
  readonly job: string
  /** RFC 3339. */
  readonly started_at: string
  readonly state: DaemonState
  /** One sentence: why it is in this state, and what it waits for. */
  readonly state_reason: string
  /** Seconds since the last local step, commit or entry into training, by a clock that nobody sets; null before the first. */
  readonly seconds_since_progress: number | null
  readonly engine: string | null
  readonly model: {
    readonly path: string
    readonly architecture: string
    readonly parameters: number
    readonly sha256: string
  } | null
  readonly dataset_size: number | null
  readonly step: number
  readonly round: number
  readonly ring: {
    readonly ring_id: string | null
    readonly epoch: number | null
    readonly quorum: string
    readonly members: readonly MemberStatus[]
    readonly addresses: readonly string[]
    readonly view_changes: number
    readonly bytes_sent: number
    readonly bytes_received: number
    readonly frames_rejected: number
    /** The same by the ring's error code. */
    readonly rejected: Readonly<Record<string, number>>
    /** null while this node is in no ring */
    readonly network: NetworkStatus | null
  }
  readonly last_step: StepStats | null
  readonly last_round: RoundStatus | null
  readonly last_delta: DeltaStatus | null
  /** Signed verdicts of validators that this node knows, restarts included. */
  readonly verdicts: {
    readonly accepted: number
    readonly rejected: number
    readonly unavailable: number
    /** The one that came last. */
    readonly last: VerdictStatus | null
  }
  readonly last_error: { readonly time: string; readonly code: string; readonly message: string } | null
}

/** One thing that happened; the unit of history and of the live event stream. */
export type DaemonEvent =
  | { readonly type: 'state'; readonly state: DaemonState; readonly reason: string }
  | { readonly type: 'step'; readonly round: number; readonly stats: StepStats }
  | { readonly type: 'round'; readonly round: RoundStatus }
  | { readonly type: 'view'; readonly epoch: number; readonly members: readonly string[] }
  | ({
      readonly type: 'delta'
      readonly file: string
      readonly sha3_256: string
      readonly verified: boolean
    } & DeltaStatus)
  | {
      readonly type: 'verdict'
      readonly verdict: VerdictStatus
      /** Known from before a restart: shown, not counted as new. */
      readonly isOld: boolean
    }
  | {
      readonly type: 'rollout'
      readonly step: number
      readonly prompt: string
      readonly completion: string
      readonly reward: number
    }
  | { readonly type: 'error'; readonly code: string; readonly message: string }
