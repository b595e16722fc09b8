/**
 * The memory of the view machine and the questions one can ask it. Plain values and pure functions: no I/O,
 * no clock (every event brings its time), no randomness.
 */
import type { RingErrorCode } from '../errors.ts'
import type { PathTable } from '../order/order.ts'
import type { VoteSigner } from './vote.ts'
import type {
  Ballot,
  Certificate,
  Durable,
  Mark,
  Member,
  Promised,
  Proposed,
  StatusMessage,
  Turn,
  ViewMessage,
  ViewValue,
} from './messages.ts'

/**
 * How many members decide. `two-thirds`: more than two thirds, so that any two decisions share an honest member while
 * fewer than a third are hostile. `any`: whoever is left; two halves may then both go on.
 */
export type QuorumMode = 'majority' | 'two-thirds' | 'any'

/** What the machine is told once. */
export interface MachineOptions {
  readonly self: string
  /** sees everything, says nothing, is in no view */
  readonly observer: boolean
  /** random per process start: tells a restarted member from the one in the view */
  readonly boot: string
  readonly job: string
  readonly minMembers: number
  readonly maxMembers: number
  readonly quorum: QuorumMode
  readonly signer: VoteSigner
  readonly peerTimeoutMs: number
  readonly genesisSettleMs: number
  readonly stragglerMs: number
}

/** What the caller brings to a round; kept unchanged through view changes until the round commits. */
export interface Contribution {
  readonly round: number
  readonly length: number
  readonly weight: number
  readonly wire: string
  /** hash of the state that the contribution starts from */
  readonly state: string
  /** hex of the caller's 32 bytes, or null */
  readonly commitment: string | null
}

/** What the shell must do, in order. Nothing after a `persist` may happen before it is durable. */
export type Effect =
  | { readonly do: 'send'; readonly to: string; readonly message: ViewMessage }
  | { readonly do: 'persist'; readonly durable: Durable; readonly withResult: boolean }
  | { readonly do: 'view'; readonly value: ViewValue | null; readonly participant: boolean }
  | {
      readonly do: 'start-round'
      readonly epoch: number
      readonly round: number
      readonly turns: readonly Turn[]
    }
  | { readonly do: 'abort-round'; readonly code: RingErrorCode; readonly reason: string }
  | { readonly do: 'commit'; readonly round: number; readonly hash: string }
  | { readonly do: 'reject'; readonly round: number; readonly code: RingErrorCode; readonly reason: string }
  | { readonly do: 'log'; readonly level: 'info' | 'warn'; readonly fields: object; readonly message: string }

/** What happens to the machine. Times are milliseconds of any monotonic clock. */
export type Event =
  | { readonly on: 'message'; readonly from: string; readonly message: ViewMessage }
  | { readonly on: 'connected'; readonly peer: string }
  | { readonly on: 'disconnected'; readonly peer: string }
  | { readonly on: 'tick' }
  | { readonly on: 'state'; readonly state: Mark }
  /** `bytes`: of its vector on the wire; only the order of the ring follows from it */
  | { readonly on: 'contribute'; readonly contribution: Contribution; readonly bytes?: number }
  | { readonly on: 'withdraw' }
  | { readonly on: 'computed'; readonly epoch: number; readonly round: number; readonly hash: string }
  | {
      readonly on: 'failed'
      readonly epoch: number
      readonly round: number
      readonly code: RingErrorCode
      readonly peer: string | null
    }
  | { readonly on: 'leave' }
  /** what is known of the paths between members has changed */
  | { readonly on: 'paths'; readonly paths: PathTable }

/** Most peers accuse nobody: a ring of a thousand keeps a million records, so they share one empty map. */
export const NO_ACCUSATIONS: ReadonlyMap<string, number> = new Map()

/** What is known of another peer of the job. */
export interface PeerRecord {
  connected: boolean
  /** alive until then, unless heard again */
  deadline: number
  status: StatusMessage | null
  /** since when this peer, in the view, accuses others without pause */
  accusing: ReadonlyMap<string, number>
  /** since when it lags behind the view of `epoch`, and when this node last told it; null while it does not */
  behind: { readonly epoch: number; readonly since: number; toldAt: number } | null
}

/** A ballot of ours under way. */
export interface Proposal {
  readonly epoch: number
  readonly ballot: Ballot
  readonly promises: Map<string, Promised>
  readonly needed: number
  value: ViewValue | null
  /** signed votes, by member, and what the first kind has made */
  readonly endorsed: Map<string, Uint8Array>
  certificate: Certificate | null
  readonly accepted: Map<string, Uint8Array>
  readonly retryAt: number
}

/** A genesis of ours under way. */
export interface Genesis {
  readonly value: ViewValue
  readonly acks: Map<string, Uint8Array>
  readonly retryAt: number
}

/** Everything the machine remembers. */
export interface MachineState {
  readonly options: MachineOptions
  /** this process's name in views; changes when it dissolves one, so that it can never be in that view again */
  boot: string
  dissolved: number
  now: number
  seq: number
  readonly peers: Map<string, PeerRecord>
  durable: Durable
  state: Mark
  committed: Mark | null
  contribution: Contribution | null
  turn: Turn | null
  running: boolean
  /** a computed result that this node still has, named by round and hash; a prepared one survives restarts */
  held: Mark | null
  abandoned: boolean
  /** consecutive abandoned rounds: slows down retries that cannot work */
  churn: number
  /** reasons to suspect a live member, since the last commit: three are enough */
  readonly strikes: Map<string, number>
  /** members left out on accusation wait this long before they may come back */
  readonly doorClosed: Map<string, number>
  /** with whom each peer has ever accused each other: one that falls out with everybody is the one to go */
  readonly quarrels: Map<string, Set<string>>
  /** a member of the view that came before this node in proposing when last looked: where to look first */
  lastAhead: string | null
  /** epoch + 1 has been promised to a proposer: this epoch can prepare nothing more */
  frozen: boolean
  adoptedAt: number
  reasonSince: number | null
  /** after another proposer's ballot was promised, this node leaves it the floor until then */
  proposeAfter: number
  stalledSince: number | null
  proposal: Proposal | null
  /** another's proposal that does not fit what this node sees: it may yet, as news comes in */
  pending: { readonly from: string; readonly message: Proposed } | null
  /** certificates that were found right, by name */
  readonly verified: Set<string>
  /** since when this node has been without a quorum of its own view, null while it has one */
  lonelySince: number | null
  highestBallot: number
  genesis: Genesis | null
  genesisLock: { readonly ringId: string; readonly proposer: string; readonly until: number } | null
  candidates: string
  candidatesSince: number
  /** times and rates between members; only the order of a view that this node proposes follows from them */
  paths: PathTable
  /** wire bytes of the vector that this node brought last, 0 before the first */
  roundBytes: number
  /** whether another order of this view pays, by these paths: computed once for both */
  reorder: { readonly view: ViewValue; readonly paths: PathTable; readonly pays: boolean } | null
  leaving: boolean
  nextStatusAt: number
  /** when to look again for peers that are long gone */
  forgetAt: number
  /** the last status that was sent to anybody */
  said: StatusMessage | null
  dirty: boolean
}

/** Failures with one neighbour, or one round held up too long, before a live member is suspected. */
export const STRIKES = 3

/** What it counts when a neighbour says that it broke off: most have a reason, but none may do so for ever. */
export const BROKEN_OFF_STRIKE = 0.25

/** Nothing promised, no view. */
export const EMPTY_DURABLE: Durable = {
  version: 2,
  view: null,
  path: [],
  promised: null,
  endorsed: null,
  accepted: null,
  computed: null,
  prepared: null,
  invited: [],
  boots: [],
}

/** Fresh memory for a process that starts with what was durable before. */
export function createMachineState(
  options: MachineOptions,
  kept: { readonly durable: Durable; readonly held: Mark | null },
  state: Mark,
  now: number,
): MachineState {
  const { durable, held } = kept
  return {
    options,
    boot: options.boot,
    dissolved: 0,
    now,
    seq: 0,
    peers: new Map(),
    durable,
    state,
    committed: null,
    contribution: null,
    turn: null,
    running: false,
    held,
    abandoned: false,
    churn: 0,
    strikes: new Map(),
    doorClosed: new Map(),
    quarrels: new Map(),
    lastAhead: null,
    frozen: durable.promised !== null,
    adoptedAt: now,
    reasonSince: null,
    proposeAfter: now,
    stalledSince: null,
    proposal: null,
    pending: null,
    verified: new Set(),
    lonelySince: null,
    highestBallot: durable.promised?.n ?? 0,
    genesis: null,
    genesisLock: null,
    candidates: '',
    candidatesSince: now,
    paths: new Map(),
    roundBytes: 0,
    reorder: null,
    leaving: false,
    nextStatusAt: now,
    forgetAt: now,
    said: null,
    dirty: true,
  }
}

/** Compares ballots: by number, then by peer id. */
export function compareBallots(a: Ballot, b: Ballot): number {
  return a.n === b.n ? compareText(a.peer, b.peer) : a.n - b.n
}

/** Plain code-unit order, the same on every machine. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Of how many members the signed votes make a view; of how many `prepared` commits a round. */
export function votesNeeded(quorum: QuorumMode, members: number): number {
  if (quorum === 'any') return 1
  return quorum === 'two-thirds' ? Math.floor((2 * members) / 3) + 1 : Math.floor(members / 2) + 1
}

/** Members that must be there to commit a round: with quorum `any` too it takes a majority. */
export function quorumOf(s: MachineState, members: number): number {
  return votesNeeded(s.options.quorum === 'any' ? 'majority' : s.options.quorum, members)
}

/** Heard of within the timeout (self always is). */
export function isAlive(s: MachineState, peer: string): boolean {
  if (peer === s.options.self) return true
  const record = s.peers.get(peer)
  return record !== undefined && s.now < record.deadline
}

/** The latest status of a peer, null before the first. */
export function statusOf(s: MachineState, peer: string): StatusMessage | null {
  return s.peers.get(peer)?.status ?? null
}

/** The process start id that this peer now runs under, null when not known. */
export function bootOf(s: MachineState, peer: string): string | null {
  return peer === s.options.self ? s.boot : (statusOf(s, peer)?.boot ?? null)
}

/** Whether this process (not an earlier one of the same peer id) is in the agreed view. */
export function isParticipant(s: MachineState): boolean {
  return s.durable.view?.members.some((m) => m.peer === s.options.self && m.boot === s.boot) ?? false
}

/** Whether peers named `peer` may vote on the next view. */
export function isAcceptor(s: MachineState, peer: string): boolean {
  return s.durable.view?.members.some((m) => m.peer === peer) ?? false
}

/** The status of a view member if it is about this very view, else null. */
export function memberStatus(s: MachineState, member: Member): StatusMessage | null {
  const view = s.durable.view
  const status = statusOf(s, member.peer)
  if (view === null || status === null || status.boot !== member.boot) return null
  return status.ringId === view.ringId && status.epoch === view.epoch ? status : null
}

/** Acceptors of the view that can be reached, self included when it is one. */
export function aliveAcceptors(s: MachineState): string[] {
  return (s.durable.view?.members ?? []).map((m) => m.peer).filter((peer) => isAlive(s, peer))
}

/** Members that this node itself finds dead, gone, restarted or leaving. */
export function unfitMembers(s: MachineState): Set<string> {
  const unfit = new Set<string>()
  for (const member of s.durable.view?.members ?? []) {
    if (member.peer === s.options.self) {
      if (member.boot !== s.boot || s.leaving) unfit.add(member.peer)
      continue
    }
    const status = statusOf(s, member.peer)
    const restarted = status !== null && status.boot !== member.boot
    const leaving = status !== null && status.leaving && !restarted
    if (!isAlive(s, member.peer) || restarted || leaving) unfit.add(member.peer)
  }
  return unfit
}

/** Members this node would tell the others it cannot work with. */
export function suspectsOf(s: MachineState): string[] {
  if (!isParticipant(s)) return []
  const suspects = (s.durable.view?.members ?? [])
    .map((m) => m.peer)
    .filter((peer) => peer !== s.options.self && (!isAlive(s, peer) || (s.strikes.get(peer) ?? 0) >= STRIKES))
  return suspects
}

/** The mark a peer is known to have reached: its state, or a commit whose state it is still writing. */
export function reachedRound(status: { state: Mark; committed: Mark | null }): number {
  return Math.max(status.state.round, status.committed?.round ?? 0)
}
