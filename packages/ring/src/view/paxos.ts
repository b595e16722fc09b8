/**
 * Single-decree Paxos per epoch (Lamport 2001): the members of view e are the acceptors for view e+1. Promises carry
 * what the acceptor has prepared, so that a round which anybody may have committed is never lost or done twice.
 */
import { createHash } from 'node:crypto'
import type { Effect, MachineState, Proposal } from './state.ts'
import { aliveAcceptors, compareBallots, isAcceptor, majorityOf, reachedRound, statusOf } from './state.ts'
import {
  MAX_EPOCH,
  type Ballot,
  type Mark,
  type Member,
  type Promised,
  type Start,
  type ViewMessage,
  type ViewValue,
} from './messages.ts'
import { adoptView, stopRound } from './adopt.ts'

type Of<T extends ViewMessage['t']> = Extract<ViewMessage, { t: T }>

/** Opens a ballot for the next epoch, if enough acceptors can be reached. `membersNow` is asked when it is time. */
export function startBallot(s: MachineState, membersNow: () => Member[], out: Effect[]): void {
  const view = s.durable.view
  if (view === null || !isAcceptor(s, s.options.self)) return
  const needed = quorumSize(s, view)
  if (aliveAcceptors(s).length < needed) return
  const n = Math.max(s.highestBallot, s.durable.promised?.n ?? 0) + 1
  // Only a member that lies brings numbers to their end; better to stand still than to store what cannot be read back.
  if (view.epoch >= MAX_EPOCH || n > Number.MAX_SAFE_INTEGER) return
  const ballot: Ballot = { n, peer: s.options.self }
  const epoch = view.epoch + 1
  const retryAt = s.now + (s.options.peerTimeoutMs / 2) * (1 + jitter(ballot))
  s.proposal = { epoch, ballot, promises: new Map(), needed, value: null, accepted: new Set(), retryAt }
  const own = promise(s, epoch, view.ringId, ballot, out)
  for (const member of view.members) {
    if (member.peer === s.options.self) continue
    out.push({ do: 'send', to: member.peer, message: { t: 'prepare', ringId: view.ringId, epoch, ballot } })
  }
  recordPromise(s, s.options.self, own, membersNow, out)
}

/** An acceptor answers a prepare: promise, refusal, or the news that the epoch is already decided. */
export function onPrepare(s: MachineState, from: string, m: Of<'prepare'>, out: Effect[]): void {
  const view = s.durable.view
  if (view === null || m.ringId !== view.ringId || !isAcceptor(s, s.options.self)) return
  if (m.epoch <= view.epoch) {
    out.push({ do: 'send', to: from, message: { t: 'decided', value: view } })
    return
  }
  if (m.epoch !== view.epoch + 1 || m.ballot.peer !== from || !isAcceptor(s, from)) return
  if (s.durable.promised !== null && compareBallots(m.ballot, s.durable.promised) < 0) {
    const promised = s.durable.promised
    out.push({ do: 'send', to: from, message: { t: 'nack', ringId: m.ringId, epoch: m.epoch, promised } })
    return
  }
  if (s.proposal !== null && compareBallots(s.proposal.ballot, m.ballot) < 0) s.proposal = null
  standBack(s)
  const answer = promise(s, m.epoch, m.ringId, m.ballot, out)
  out.push({ do: 'send', to: from, message: answer })
}

/** The proposer counts promises and, with a quorum, asks to accept a value. */
export function onPromise(
  s: MachineState,
  from: string,
  m: Promised,
  membersNow: () => Member[],
  out: Effect[],
): void {
  if (!isMine(s, m) || !isAcceptor(s, from)) return
  recordPromise(s, from, m, membersNow, out)
}

/** A refusal names the higher ballot; the next try goes above it. */
export function onNack(s: MachineState, from: string, m: Of<'nack'>): void {
  const view = s.durable.view
  if (view === null || m.ringId !== view.ringId || m.epoch !== view.epoch + 1 || !isAcceptor(s, from)) return
  s.highestBallot = Math.max(s.highestBallot, m.promised.n)
  if (s.proposal === null || compareBallots(s.proposal.ballot, m.promised) >= 0) return
  s.proposal = null
  standBack(s)
}

/** An acceptor accepts unless it has promised a higher ballot. */
export function onAccept(s: MachineState, from: string, m: Of<'accept'>, out: Effect[]): void {
  const view = s.durable.view
  if (view === null || m.ringId !== view.ringId || !isAcceptor(s, s.options.self)) return
  if (m.epoch <= view.epoch) {
    out.push({ do: 'send', to: from, message: { t: 'decided', value: view } })
    return
  }
  if (m.epoch !== view.epoch + 1 || m.value.epoch !== m.epoch || m.value.ringId !== view.ringId) return
  if (m.ballot.peer !== from || !isAcceptor(s, from)) return
  if (s.durable.promised !== null && compareBallots(m.ballot, s.durable.promised) < 0) {
    const promised = s.durable.promised
    out.push({ do: 'send', to: from, message: { t: 'nack', ringId: m.ringId, epoch: m.epoch, promised } })
    return
  }
  if (s.proposal !== null && compareBallots(s.proposal.ballot, m.ballot) < 0) s.proposal = null
  accept(s, m.ballot, m.value, out)
  const message: ViewMessage = { t: 'accepted', ringId: m.ringId, epoch: m.epoch, ballot: m.ballot }
  out.push({ do: 'send', to: from, message })
}

/** With a quorum of acceptances the view is decided, and everybody connected is told. */
export function onAccepted(s: MachineState, from: string, m: Of<'accepted'>, out: Effect[]): void {
  if (!isMine(s, m) || !isAcceptor(s, from) || s.proposal?.value == null) return
  recordAccepted(s, s.proposal, s.proposal.value, from, out)
}

/** Leaves another proposer the floor for a while; how long differs between nodes and ballots, so that duels end. */
function standBack(s: MachineState): void {
  const ballot = { n: s.highestBallot, peer: s.options.self }
  s.proposeAfter = s.now + (s.options.peerTimeoutMs / 4) * (1 + 3 * jitter(ballot))
}

/** Votes that a change of this view needs. With quorum `any`: of all that can be reached and have not left this ring. */
function quorumSize(s: MachineState, view: ViewValue): number {
  if (s.options.quorum === 'majority') return majorityOf(view.members.length)
  return aliveAcceptors(s).filter((peer) => {
    const status = statusOf(s, peer)
    return status === null || status.ringId === view.ringId
  }).length
}

function isMine(s: MachineState, m: { ringId: string; epoch: number; ballot: Ballot }): boolean {
  const p = s.proposal
  if (p === null || s.durable.view?.ringId !== m.ringId) return false
  return p.epoch === m.epoch && compareBallots(p.ballot, m.ballot) === 0
}

/** Durable promise. From here on this epoch prepares no round, which is what makes the report in it final. */
function promise(s: MachineState, epoch: number, ringId: string, ballot: Ballot, out: Effect[]): Promised {
  stopRound(s, 'VIEW_CHANGED', `epoch ${epoch} is being agreed`, out)
  s.frozen = true
  s.turn = null
  s.dirty = true
  raiseBallot(s, ballot)
  s.durable = { ...s.durable, promised: ballot }
  out.push({ do: 'persist', durable: s.durable, withResult: false })
  const { accepted, prepared } = s.durable
  const start = s.durable.view?.start ?? { round: 0, result: null }
  return {
    t: 'promise',
    ringId,
    epoch,
    ballot,
    accepted,
    prepared,
    held: s.held,
    reached: reachedRound(s),
    start,
  }
}

/** A promise never goes down: that is what makes a vote final. */
function raiseBallot(s: MachineState, ballot: Ballot): void {
  if (s.durable.promised !== null && compareBallots(ballot, s.durable.promised) < 0) {
    throw new Error(`promised ballot would go down from ${s.durable.promised.n} to ${ballot.n}`)
  }
  s.highestBallot = Math.max(s.highestBallot, ballot.n)
}

function accept(s: MachineState, ballot: Ballot, value: ViewValue, out: Effect[]): void {
  stopRound(s, 'VIEW_CHANGED', `epoch ${value.epoch} is being agreed`, out)
  s.frozen = true
  s.turn = null
  s.dirty = true
  raiseBallot(s, ballot)
  s.durable = { ...s.durable, promised: ballot, accepted: { ballot, value } }
  out.push({ do: 'persist', durable: s.durable, withResult: false })
}

function recordPromise(
  s: MachineState,
  from: string,
  m: Promised,
  membersNow: () => Member[],
  out: Effect[],
): void {
  const p = s.proposal
  const view = s.durable.view
  if (p === null || view === null) return
  p.promises.set(from, m)
  if (p.value !== null || p.promises.size < p.needed) return
  const value = chooseValue(s, p, view, membersNow)
  if (value === null) return
  p.value = value
  accept(s, p.ballot, value, out)
  for (const member of view.members) {
    if (member.peer === s.options.self) continue
    const message: ViewMessage = { t: 'accept', ringId: view.ringId, epoch: p.epoch, ballot: p.ballot, value }
    out.push({ do: 'send', to: member.peer, message })
  }
  recordAccepted(s, p, value, s.options.self, out)
}

function recordAccepted(s: MachineState, p: Proposal, value: ViewValue, from: string, out: Effect[]): void {
  p.accepted.add(from)
  if (p.accepted.size < p.needed) return
  adoptView(s, value, out)
  for (const [peer, record] of s.peers) {
    if (record.connected) out.push({ do: 'send', to: peer, message: { t: 'decided', value } })
  }
}

/** Paxos' rule first; then the wish of the moment, with the round that may have been committed. Null: wait. */
function chooseValue(
  s: MachineState,
  p: Proposal,
  view: ViewValue,
  membersNow: () => Member[],
): ViewValue | null {
  let highest: { ballot: Ballot; value: ViewValue } | null = null
  for (const { accepted } of p.promises.values()) {
    if (accepted !== null && (highest === null || compareBallots(accepted.ballot, highest.ballot) > 0)) {
      highest = accepted
    }
  }
  if (highest !== null) return highest.value
  const start = chooseStart(s, p, view)
  if (start === 'wait') return null
  const members = membersNow()
  return members.length === 0 ? null : { ringId: view.ringId, epoch: p.epoch, members, start }
}

/**
 * The newest round that any promiser has reached, has prepared, or knows from the start of its own view counts as
 * committed. A prepared round can only be dropped when every member has promised and none holds its result: then
 * nobody has committed it, or whoever did has lost it too.
 */
function chooseStart(s: MachineState, p: Proposal, view: ViewValue): Start | 'wait' {
  const promises = [...p.promises.values()]
  let prepared: Mark | null = null
  let known: Start = { round: 0, result: null }
  for (const promise of promises) {
    if (promise.prepared !== null && promise.prepared.round > (prepared?.round ?? 0))
      prepared = promise.prepared
    if (promise.reached > known.round) known = { round: promise.reached, result: null }
    if (promise.start.round > known.round) known = promise.start
    if (promise.start.round === known.round && promise.start.result !== null) known = promise.start
  }
  if (prepared === null || prepared.round < known.round) return known
  const { round, hash } = prepared
  const isHeld = promises.some((m) => m.reached >= round || (m.held?.round === round && m.held.hash === hash))
  if (isHeld || round === known.round) return { round, result: hash }
  const everybody = view.members.every((member) => p.promises.has(member.peer))
  return everybody || s.options.quorum === 'any' ? known : 'wait'
}

/** A number in [0, 1) that differs between proposers and ballots, so that duels end; no randomness needed. */
function jitter(ballot: Ballot): number {
  return createHash('sha3-256').update(`${ballot.n} ${ballot.peer}`).digest().readUInt16BE(0) / 65_536
}
