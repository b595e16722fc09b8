/**
 * The view protocol as a state machine: an event and its time go in, effects come out. It never does anything itself.
 * docs/PROTOCOL.md is its specification in words.
 */
import type { Effect, Event, MachineOptions, MachineState, PeerRecord } from './state.ts'
import {
  BROKEN_OFF_STRIKE,
  createMachineState,
  NO_ACCUSATIONS,
  isAlive,
  isParticipant,
  statusOf,
} from './state.ts'
import type { Durable, Mark, StatusMessage, ViewMessage } from './messages.ts'
import { forgetGone } from './forget.ts'
import { informLaggard } from './inform.ts'
import { flushStatus, greeting, saysTheSame } from './status.ts'
import { abandonRound, advanceTurn, commitStart, openTurn } from './turn.ts'
import { considerChange, desiredMembers, isFirstProposer } from './change.ts'
import { onAccept, onPrepare, onPropose, reconsider } from './acceptor.ts'
import { noteBoot, noteLoneliness, onDecided } from './decided.ts'
import { considerMerge } from './merge.ts'
import { onAccepted, onEndorsed, onNack, onPromise } from './proposer.ts'
import { considerGenesis, onGenesis, onGenesisAck, onGenesisNack } from './genesis.ts'

/** One node's side of the protocol. `handle` is deterministic: the same events give the same effects. */
export class ViewMachine {
  readonly state: MachineState

  constructor(
    options: MachineOptions,
    kept: { readonly durable: Durable; readonly held: Mark | null },
    mark: Mark,
    now: number,
  ) {
    this.state = createMachineState(options, kept, mark, now)
  }

  /** Takes one event; returns what must be done, in order. */
  handle(event: Event, now: number): Effect[] {
    const s = this.state
    const out: Effect[] = []
    s.now = Math.max(s.now, now)
    noteBoot(s, out)
    switch (event.on) {
      case 'message':
        return this.#afterMessage(onMessage(s, event.from, event.message, out), out)
      case 'connected':
        onConnected(s, event.peer, out)
        break
      case 'disconnected':
        onDisconnected(s, event.peer)
        break
      case 'state':
        onState(s, event.state)
        break
      case 'contribute':
        s.contribution = event.contribution
        s.roundBytes = event.bytes ?? 0
        commitStart(s, out)
        openTurn(s, out)
        break
      case 'withdraw':
        onWithdraw(s, out)
        break
      case 'computed':
        onComputed(s, event, out)
        break
      case 'failed':
        onFailed(s, event, out)
        break
      case 'leave':
        s.leaving = true
        s.dirty = true
        break
      case 'paths':
        s.paths = event.paths
        break
      case 'tick':
        break
    }
    advanceTurn(s, out)
    if (event.on === 'tick') {
      noteLoneliness(s)
      forgetGone(s)
    }
    const isNewsOfPeers = event.on === 'tick' || event.on === 'connected' || event.on === 'disconnected'
    if (isNewsOfPeers) reconsider(s, out)
    const isCrowdEvent = event.on === 'connected' || event.on === 'disconnected'
    if (!isCrowdEvent || isFirstProposer(s)) considerChange(s, out)
    if (event.on === 'tick') considerGenesis(s, out)
    openTurn(s, out)
    flushStatus(s, out)
    return out
  }

  /**
   * A ring of a thousand takes a thousand statuses for every step of a round: each sets off only what it can. Whether the
   * view should change is looked at with a tick by all but the one who would propose; they wait for half a timeout anyway.
   */
  #afterMessage(news: News, out: Effect[]): Effect[] {
    const s = this.state
    if (news !== 'none') advanceTurn(s, out)
    if (news === 'membership' && isFirstProposer(s)) considerChange(s, out)
    if (news !== 'none') openTurn(s, out)
    flushStatus(s, out)
    return out
  }
}

/** What a message brought: nothing beyond a sign of life, a step of a round, or what may be a reason for a new view. */
type News = 'none' | 'progress' | 'membership'

/**
 * Whether a leaving node need not wait: nobody who stays is left to agree on a view without it, or they have one and at
 * least one of them has this node's state, so that it is not lost with it.
 */
export function mayGo(s: MachineState): boolean {
  const staying = (s.durable.view?.members ?? [])
    .filter((m) => m.peer !== s.options.self && isAlive(s, m.peer))
    .map((m) => statusOf(s, m.peer))
    .filter((status) => status?.leaving !== true)
  if (staying.length === 0) return true
  return !isParticipant(s) && staying.some((status) => status !== null && status.state.round >= s.state.round)
}

/** What a message does not set off at once, the next tick does. */
function onMessage(s: MachineState, from: string, message: ViewMessage, out: Effect[]): News {
  if (from === s.options.self) return 'none'
  const record = recordOf(s, from)
  record.deadline = s.now + s.options.peerTimeoutMs
  switch (message.t) {
    case 'status':
      return onStatus(s, from, record, message, out)
    case 'genesis':
      onGenesis(s, from, message, out)
      break
    case 'genesis-ack':
      onGenesisAck(s, from, message, out)
      break
    case 'genesis-nack':
      onGenesisNack(s, from, message)
      break
    case 'prepare':
      onPrepare(s, from, message, out)
      break
    case 'promise':
      onPromise(s, from, message, () => desiredMembers(s), out)
      break
    case 'nack':
      onNack(s, from, message)
      break
    case 'propose':
      onPropose(s, from, message, out)
      break
    case 'endorsed':
      onEndorsed(s, from, message, out)
      break
    case 'accept':
      onAccept(s, from, message, out)
      break
    case 'accepted':
      onAccepted(s, from, message, out)
      break
    case 'decided':
      onDecided(s, from, message.path, out)
      break
  }
  return 'membership'
}

function onStatus(
  s: MachineState,
  from: string,
  record: PeerRecord,
  status: StatusMessage,
  out: Effect[],
): News {
  const last = record.status
  if (last !== null && last.boot === status.boot && status.seq <= last.seq) return 'none'
  record.status = status
  informLaggard(s, from, record, status, out)
  if (s.durable.view !== null) noteAccusations(s, record, status)
  const { view } = s.durable
  considerMerge(s, status, out)
  if (last !== null && s.durable.view === view && saysTheSame(last, status)) return 'none'
  const isRoundOnly =
    last?.boot === status.boot &&
    last.leaving === status.leaving &&
    !status.abandoned &&
    status.suspects.length === 0 &&
    status.ringId === view?.ringId &&
    s.durable.view === view
  return isRoundOnly ? 'progress' : 'membership'
}

/** Accusations count from the moment they began, and only without a break. */
function noteAccusations(s: MachineState, record: PeerRecord, status: StatusMessage): void {
  if (status.suspects.length === 0 && record.accusing.size === 0) return
  const view = s.durable.view
  const current = view !== null && status.ringId === view.ringId && status.epoch === view.epoch
  const since = record.accusing
  const suspects = current ? status.suspects : []
  record.accusing = new Map(suspects.map((peer) => [peer, since.get(peer) ?? s.now]))
}

function onConnected(s: MachineState, peer: string, out: Effect[]): void {
  const record = recordOf(s, peer)
  record.connected = true
  record.deadline = s.now + s.options.peerTimeoutMs
  if (!s.options.observer) out.push({ do: 'send', to: peer, message: greeting(s) })
}

function onDisconnected(s: MachineState, peer: string): void {
  const record = s.peers.get(peer)
  if (record === undefined) return
  // Whom this node now suspects is told with the next heartbeat: accusations must stand for a while anyway, and a
  // status to all for each of many that go at once would be a storm.
  record.connected = false
  record.deadline = s.now
  record.accusing = NO_ACCUSATIONS
}

function onState(s: MachineState, state: Mark): void {
  if (state.round === s.state.round && state.hash === s.state.hash) return
  s.state = state
  s.dirty = true
}

/** The caller gave up. The epoch's turn is spent, so the others need a new view before they can go on. */
function onWithdraw(s: MachineState, out: Effect[]): void {
  if (s.contribution === null) return
  s.contribution = null
  if (s.turn !== null) abandonRound(s, 'PEER_LOST', 'the caller gave the round up', out)
}

/** Durable before it is said: it is what this member can later check claims about the round by. */
function onComputed(
  s: MachineState,
  event: { epoch: number; round: number; hash: string },
  out: Effect[],
): void {
  if (!s.running || s.turn?.epoch !== event.epoch || s.turn.round !== event.round) return
  s.running = false
  s.held = { round: event.round, hash: event.hash }
  s.durable = { ...s.durable, computed: s.held }
  out.push({ do: 'persist', durable: s.durable, withResult: true })
  s.turn = { ...s.turn, done: event.hash }
  s.dirty = true
}

function onFailed(
  s: MachineState,
  event: { epoch: number; round: number; code: string; peer: string | null },
  out: Effect[],
): void {
  if (!s.running || s.turn?.epoch !== event.epoch || s.turn.round !== event.round) return
  s.running = false
  if (event.peer !== null && isAlive(s, event.peer)) {
    const strike = event.code === 'BROKEN_OFF' ? BROKEN_OFF_STRIKE : 1
    s.strikes.set(event.peer, (s.strikes.get(event.peer) ?? 0) + strike)
  }
  abandonRound(s, 'PEER_LOST', `link failed with ${event.code}`, out)
}

function recordOf(s: MachineState, peer: string): PeerRecord {
  let record = s.peers.get(peer)
  if (record === undefined) {
    record = { connected: false, deadline: s.now, status: null, accusing: NO_ACCUSATIONS, behind: null }
    s.peers.set(peer, record)
  }
  return record
}
