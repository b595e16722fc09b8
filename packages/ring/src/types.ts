/** The public contract of the ring: what a daemon hands in, and what it can ask and await. No behaviour. */
import type { Identity } from '@gym-node/wire'
import type { RingError } from './errors.ts'
import type { RingLimits } from './defaults.ts'
import type { NetworkOptions, NetworkStatus } from './net/network-types.ts'
import type { ReachVerdict } from './reach/reachability.ts'

/** An agreed membership. It changes only between rounds, or by abandoning one. */
export interface View {
  /** names this ring for its whole life; drawn at genesis */
  readonly ringId: string
  /** grows by one with every agreed change; at most one view is committed per epoch */
  readonly epoch: number
  /** peer ids in ring order: each sends to the next, the last to the first */
  readonly members: readonly string[]
}

/**
 * The state that all members share, owned by the caller. `current()` must only report what survives a restart,
 * and `hash` is SHA3-256 over exactly the bytes that `read()` returns.
 */
export interface StateProvider {
  current(): { round: number; hash: Uint8Array }
  read(): Promise<Uint8Array>
  adopt(bytes: Uint8Array, at: { round: number; hash: Uint8Array }): Promise<void>
}

/** Where promises of the view protocol are kept: durable before `save` resolves, atomic (old or new, never a mix). */
export interface ViewStore {
  load(): Promise<Uint8Array | null>
  save(bytes: Uint8Array): Promise<void>
  /**
   * Optional pair: keeps the result of the round that is about to commit (one vector; only the last is needed). With it
   * a committed round survives even a crash of all members at once; without it such a round is run again.
   */
  saveResult?(bytes: Uint8Array): Promise<void>
  loadResult?(): Promise<Uint8Array | null>
}

/** A structured logger, pino's shape. */
export interface RingLogger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** How numbers travel: exact, 16-bit brain float, or 8-bit integers in blocks with error feedback. */
export type WireType = 'f32' | 'bf16' | 'int8'

/** `sealed`: every hop authenticated. `signed`: each finished segment is also signed by the member that finished it. */
export type Integrity = 'sealed' | 'signed'

/** Which carriers a link may use: a direct TCP socket with the stream as fallback, or only the libp2p stream. */
export type CarrierChoice = 'direct' | 'stream'

/** Everything a ring needs from its owner. */
export interface RingOptions {
  readonly identity: Identity
  /** peers of another job are ignored */
  readonly job: string
  /** multiaddrs to listen on, for example /ip4/0.0.0.0/tcp/0 */
  readonly listen: readonly string[]
  /** multiaddrs of peers to find the ring through */
  readonly bootstrap: readonly string[]
  readonly mdns: boolean
  /** further ways to find others and to be found; without it bootstrap and mDNS only */
  readonly network?: NetworkOptions
  /** genesis waits for this many peers, self included; an existing ring may shrink below it */
  readonly minMembers: number
  /**
   * how many decide; `two-thirds` holds against members that lie while they are fewer than a third; `any` lets whoever is
   * left go on: two halves may both go on, so only for rings of two and tests
   */
  readonly quorum: 'majority' | 'two-thirds' | 'any'
  /** a member silent for this long is suspected */
  readonly peerTimeoutMs: number
  readonly wire: WireType
  readonly integrity: Integrity
  /** default `direct` */
  readonly carrier?: CarrierChoice
  /** direct sockets side by side on the link to the successor, 1 to 16; default 1. Long paths with loss need several. */
  readonly sockets?: number
  /** `observer` finds peers and can ask them, but never takes part; default `member` */
  readonly role?: 'member' | 'observer'
  /**
   * Peer ids; when `allow` is given only these may take part; with one in `deny` there is no connection at all. Both are
   * read at each use: behind a getter they may change while the node runs, and whoever is out then is cut off.
   */
  readonly allow?: readonly string[] | undefined
  readonly deny?: readonly string[] | undefined
  readonly state: StateProvider
  readonly store: ViewStore
  readonly logger: RingLogger
  readonly limits?: Partial<RingLimits>
}

/**
 * `alone`: no peer of this job is known. `forming`: peers are known, no agreed view yet (or waiting at the door).
 * `syncing`: in the view, fetching its state. `member`: taking part. `minority`: cut off from the quorum, waiting.
 */
export type RingPhase = 'alone' | 'forming' | 'syncing' | 'member' | 'minority' | 'stopped'

/** One peer of the job as this node sees it. */
export interface MemberStatus {
  readonly peerId: string
  readonly inView: boolean
  readonly alive: boolean
  /** the last round whose state the peer reports, null before its first message */
  readonly round: number | null
}

/** Counters since start; they only grow. */
export interface RingCounters {
  readonly bytesSent: number
  readonly bytesReceived: number
  readonly roundsCommitted: number
  readonly roundsAbandoned: number
  readonly viewChanges: number
  readonly statesFetched: number
  readonly statesServed: number
  /** links opened by carrier */
  readonly linksDirect: number
  readonly linksStream: number
  /** frames and messages refused, by error code */
  readonly rejected: Readonly<Record<string, number>>
}

/** A snapshot for `status` commands and metrics. */
export interface RingStatus {
  readonly phase: RingPhase
  readonly members: readonly MemberStatus[]
  readonly counters: RingCounters
  readonly network: NetworkStatus
  /** the round whose all-reduce is under way here, else null */
  readonly activeRound: number | null
}

/** A committed round. `mean` belongs to the caller and has the same bytes on every member. */
export interface RoundResult {
  readonly round: number
  readonly view: View
  /** sum(w_i v_i) / sum(w_i); all zeros when the weights sum to zero */
  readonly mean: Float32Array
  readonly totalWeight: number
  /** names the result; equal on all members */
  readonly hash: Uint8Array
  readonly contributors: readonly string[]
  /** the same members with their weights and commitments, in ring order */
  readonly contributions: readonly Contribution[]
  /** 1 when the first try committed */
  readonly attempts: number
  readonly bytesSent: number
  readonly bytesReceived: number
  readonly durationMs: number
  /**
   * Optional: hands the memory of `mean` over to a later round, which saves the kernel clearing as many pages. From
   * then on `mean` throws BAD_ARGUMENT, and views taken from it before must not be used. Calling it again does nothing.
   */
  release(): void
}

/** What one member brought to a round; all members agree on this list before the first byte is summed. */
export interface Contribution {
  readonly peerId: string
  readonly weight: number
  /** what the member bound itself to, 32 bytes chosen by the caller, or null */
  readonly commitment: Uint8Array | null
}

/** Answers a peer's request; what it throws is told to the peer as REFUSED with its message. */
export type RequestHandler = (
  request: Uint8Array,
  context: { readonly from: string; readonly signal: AbortSignal },
) => Promise<Uint8Array | AsyncIterable<Uint8Array>>

/** What answering may cost. */
export interface RequestLimits {
  readonly maxRequestBytes: number
  readonly maxConcurrent: number
  readonly timeoutMs: number
}

/** What asking may cost. */
export interface RequestOptions {
  readonly maxResponseBytes: number
  readonly timeoutMs: number
  readonly signal?: AbortSignal
}

/** What a listener is given. */
export interface RingEvents {
  view: View
  round: {
    readonly round: number
    readonly durationMs: number
    readonly members: number
    readonly attempts: number
  }
  peer: { readonly peerId: string; readonly alive: boolean }
  /** whether others can dial this node: at the first answer, and when it changes */
  reachability: ReachVerdict
  error: RingError
}

/** A ring that can be joined, waited for, summed over and left. */
export interface Ring {
  readonly peerId: string
  /** dialable multiaddrs with the peer id, known after `start` */
  readonly addresses: readonly string[]
  readonly view: View | null
  readonly status: RingStatus
  /** Listens and looks for peers. Throws RingError PORT_IN_USE, BAD_ADDRESS or BAD_STORE. Idempotent. */
  start(): Promise<void>
  /** Leaves the ring politely, aborting a round; pending calls reject with STOPPED. Idempotent. */
  stop(): Promise<void>
  /** Resolves when this node is in an agreed view and its state is the ring's (`adopt` has been called if needed). */
  ready(options?: { signal?: AbortSignal }): Promise<View>
  /**
   * Memory for a vector of `length` that `allReduce` reads in place; any other Float32Array it copies, piece by piece,
   * which costs a tenth of a round of tens of megabytes. The caller's to write while no round runs; the same each time,
   * until a vector of another length is asked for or reduced. Content at first: zeros.
   */
  vector(length: number): Float32Array
  /**
   * The weighted mean of everybody's vector, committed by the view. `round` must be the state's round + 1. The vector
   * is only read, and must not change until the promise settles. `commitment` (32 bytes) is exchanged and fixed before
   * anything is summed. Throws RingError ROUND_SUPERSEDED or OUT_OF_SYNC
   * (go back to `ready`), LENGTH_MISMATCH, STOPPED, or the signal's reason.
   */
  allReduce(
    vector: Float32Array,
    options: { round: number; weight: number; commitment?: Uint8Array; signal?: AbortSignal },
  ): Promise<RoundResult>
  /** Peers of this job that are connected now. */
  peers(): string[]
  /** Answers requests of a protocol of the caller's own, e.g. /gym/trace/1; the returned function ends that. */
  handle(protocol: string, handler: RequestHandler, limits: RequestLimits): Promise<() => Promise<void>>
  /** Asks a peer, dialling it if needed. Throws RingError TIMEOUT, PEER_LOST, BAD_FRAME or REFUSED. */
  request(peer: string, protocol: string, request: Uint8Array, options: RequestOptions): Promise<Uint8Array>
  /** Subscribes; the returned function unsubscribes. */
  on<E extends keyof RingEvents>(event: E, listener: (value: RingEvents[E]) => void): () => void
}
