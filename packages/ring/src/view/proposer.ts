/**
 * Proposing the next view: a ballot asks for promises, then for endorsements of one value, then for its acceptance. It
 * believes of what others report only what can be, and counts only votes that are signed.
 */
import type { Effect, MachineState, Proposal } from './state.ts'
import { aliveAcceptors, compareBallots, isAcceptor, statusOf, votesNeeded } from './state.ts'
import {
  MAX_EPOCH,
  type Ballot,
  type Member,
  type Promised,
  type Proposed,
  type Proven,
  type ViewMessage,
  type ViewMessageOf,
  type ViewValue,
} from './messages.ts'
import { accept, endorse, isOutOfReach, promise, questionOf } from './acceptor.ts'
import { adoptView } from './adopt.ts'
import { jitter, standBack } from './backoff.ts'
import { certify, isCertified, isVote } from './certificate.ts'
import { pathFor } from './path.ts'
import { chooseStart, isPlausible } from './start.ts'

/** Opens a ballot for the next epoch, if enough acceptors can be reached. `membersNow` is asked when it is time. */
export function startBallot(s: MachineState, membersNow: () => Member[], out: Effect[]): void {
  const view = s.durable.view
  if (view === null || !isAcceptor(s, s.options.self)) return
  const needed = quorumNow(s, view)
  if (aliveAcceptors(s).length < needed) return
  const n = Math.max(s.highestBallot, s.durable.promised?.n ?? 0) + 1
  // Only members that lie bring numbers to their end; better to stand still than to store what cannot be read back.
  if (view.epoch >= MAX_EPOCH || n > Number.MAX_SAFE_INTEGER) return
  const ballot: Ballot = { n, peer: s.options.self }
  const epoch = view.epoch + 1
  const retryAt = s.now + (s.options.peerTimeoutMs / 2) * (1 + jitter(ballot))
  s.proposal = {
    epoch,
    ballot,
    promises: new Map(),
    needed,
    value: null,
    endorsed: new Map(),
    certificate: null,
    accepted: new Map(),
    retryAt,
  }
  s.pending = null
  const own = promise(s, epoch, view.ringId, ballot, out)
  tellMembers(s, view, { t: 'prepare', ringId: view.ringId, epoch, ballot }, out)
  recordPromise(s, s.options.self, own, membersNow, out)
}

/** The proposer counts promises and, with a quorum, asks to endorse a value. */
export function onPromise(
  s: MachineState,
  from: string,
  m: Promised,
  membersNow: () => Member[],
  out: Effect[],
): void {
  if (!isMine(s, m) || !isAcceptor(s, from)) return
  if (canBeTrue(s, m)) recordPromise(s, from, m, membersNow, out)
  else
    out.push({ do: 'log', level: 'warn', fields: { peer: from }, message: 'a promise that cannot be true' })
}

/** A refusal names the higher ballot; the next try goes above it. */
export function onNack(s: MachineState, from: string, m: ViewMessageOf<'nack'>): void {
  const view = s.durable.view
  if (view === null || m.ringId !== view.ringId || m.epoch !== view.epoch + 1 || !isAcceptor(s, from)) return
  if (isOutOfReach(s, m.promised.n)) return
  s.highestBallot = Math.max(s.highestBallot, m.promised.n)
  if (s.proposal === null || compareBallots(s.proposal.ballot, m.promised) >= 0) return
  s.proposal = null
  standBack(s)
}

/** With a quorum of endorsements the value is put to the vote, and they go with it. */
export function onEndorsed(s: MachineState, from: string, m: ViewMessageOf<'endorsed'>, out: Effect[]): void {
  const p = s.proposal
  if (p?.value == null || !isMine(s, m) || !isAcceptor(s, from) || p.certificate !== null) return
  const signature = Buffer.from(m.signature, 'base64')
  if (isVote(s, questionOf(s, 'endorse', p.ballot, p.value), from, signature))
    recordEndorsed(s, p, p.value, from, signature, out)
}

/** With a quorum of acceptances the view is decided, and everybody connected is told, with the proof. */
export function onAccepted(s: MachineState, from: string, m: ViewMessageOf<'accepted'>, out: Effect[]): void {
  const p = s.proposal
  if (p?.value == null || p.certificate === null || !isMine(s, m) || !isAcceptor(s, from)) return
  const signature = Buffer.from(m.signature, 'base64')
  if (isVote(s, questionOf(s, 'accept', p.ballot, p.value), from, signature))
    recordAccepted(s, p, p.value, from, signature, out)
}

/** Votes that a change of this view needs. With quorum `any`: of all that can be reached and have not left this ring. */
function quorumNow(s: MachineState, view: ViewValue): number {
  if (s.options.quorum !== 'any') return votesNeeded(s.options.quorum, view.members.length)
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

/** Whether a promise shows an endorsement for what it says was accepted, and reports nothing that cannot be. */
function canBeTrue(s: MachineState, m: Promised): boolean {
  const { view } = s.durable
  if (view === null || (s.options.quorum !== 'any' && !isPlausible(s, m))) return false
  if (m.accepted === null) return true
  const { value, certificate } = m.accepted
  if (value.epoch !== m.epoch || compareBallots(certificate.ballot, m.ballot) >= 0) return false
  return isCertified(s, 'endorse', view, value, certificate)
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
  const forced = acceptedBefore(p)
  const value = forced?.value ?? freshValue(s, p, view, membersNow)
  if (value === null) return
  const endorsement = forced?.certificate ?? null
  const { epoch, ballot } = p
  const message: Proposed = { t: 'propose', ringId: view.ringId, epoch, ballot, value, endorsement }
  const own = endorse(s, message, out)
  if (own === null) return
  p.value = value
  tellMembers(s, view, message, out)
  recordEndorsed(s, p, value, s.options.self, own, out)
}

function recordEndorsed(
  s: MachineState,
  p: Proposal,
  value: ViewValue,
  from: string,
  signature: Uint8Array,
  out: Effect[],
): void {
  const view = s.durable.view
  p.endorsed.set(from, signature)
  if (view === null || p.endorsed.size < p.needed) return
  p.certificate = certify(questionOf(s, 'endorse', p.ballot, value), p.endorsed)
  const own = accept(s, { value, certificate: p.certificate }, out)
  if (own === null) return
  const { certificate, epoch } = p
  tellMembers(s, view, { t: 'accept', ringId: view.ringId, epoch, value, certificate }, out)
  recordAccepted(s, p, value, s.options.self, own, out)
}

function recordAccepted(
  s: MachineState,
  p: Proposal,
  value: ViewValue,
  from: string,
  signature: Uint8Array,
  out: Effect[],
): void {
  p.accepted.set(from, signature)
  if (p.accepted.size < p.needed) return
  const view = s.durable.view
  const certificate = certify(questionOf(s, 'accept', p.ballot, value), p.accepted)
  adoptView(s, [{ value, certificate }], out)
  const voters = new Set(view?.members.map(({ peer }) => peer))
  const forVoters: ViewMessage = { t: 'decided', path: [{ value, certificate }] }
  const forOthers: ViewMessage = { t: 'decided', path: pathFor(s, null) }
  for (const [peer, record] of s.peers) {
    if (record.connected)
      out.push({ do: 'send', to: peer, message: voters.has(peer) ? forVoters : forOthers })
  }
}

/** What a promise names as accepted in the highest ballot: it may be decided, so it must be proposed again (Paxos). */
function acceptedBefore(p: Proposal): Proven | null {
  let highest: Proven | null = null
  for (const { accepted } of p.promises.values()) {
    if (accepted === null) continue
    const isHigher =
      highest === null || compareBallots(accepted.certificate.ballot, highest.certificate.ballot) > 0
    if (isHigher) highest = accepted
  }
  return highest
}

/** The wish of the moment, with the round that may have been committed. Null: wait. */
function freshValue(
  s: MachineState,
  p: Proposal,
  view: ViewValue,
  membersNow: () => Member[],
): ViewValue | null {
  const start = chooseStart(s, p, view)
  if (start === 'wait') return null
  const members = membersNow()
  return members.length === 0 ? null : { ringId: view.ringId, epoch: p.epoch, members, start }
}

function tellMembers(s: MachineState, view: ViewValue, message: ViewMessage, out: Effect[]): void {
  for (const { peer } of view.members) {
    if (peer !== s.options.self) out.push({ do: 'send', to: peer, message })
  }
}
