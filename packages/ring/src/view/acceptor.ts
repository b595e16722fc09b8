/**
 * A member's part in deciding the next view (single-decree Paxos per epoch, Lamport 2001, with an endorsement between its
 * phases). What it has promised, endorsed or accepted is durable before it is said, and signed where others are to be
 * shown it.
 */
import type { Effect, MachineState } from './state.ts'
import { compareBallots, isAcceptor, reachedRound } from './state.ts'
import {
  MAX_BALLOT_STEP,
  type Ballot,
  type Promised,
  type Proposed,
  type Proven,
  type ViewMessage,
  type ViewMessageOf,
  type ViewValue,
} from './messages.ts'
import { stopRound } from './adopt.ts'
import { standBack } from './backoff.ts'
import { noteQuarrels } from './accusations.ts'
import { isCertified, signVote } from './certificate.ts'
import { objection } from './endorse.ts'
import { pathFor } from './path.ts'
import { valueHash, type Question, type VoteKind } from './vote.ts'

/** An acceptor answers a prepare: promise, refusal, or the news that the epoch is already decided. */
export function onPrepare(s: MachineState, from: string, m: ViewMessageOf<'prepare'>, out: Effect[]): void {
  if (!mayVote(s, from, m, m.ballot, out)) return
  standBack(s)
  const answer = promise(s, m.epoch, m.ringId, m.ballot, out)
  out.push({ do: 'send', to: from, message: answer })
}

/** It endorses what it would propose itself as well; what does not fit what it sees waits for news, and may pass then. */
export function onPropose(s: MachineState, from: string, m: Proposed, out: Effect[]): void {
  if (!isAbout(m, m.value) || !mayVote(s, from, m, m.ballot, out)) return
  s.pending = null
  const signature = endorse(s, m, out)
  if (signature === null) {
    s.pending = { from, message: m }
    return
  }
  standBack(s)
  out.push({ do: 'send', to: from, message: { t: 'endorsed', ...scopeOf(m), signature: text(signature) } })
}

/** Looks again at a proposal that did not fit: the proposer may have been the first to see that somebody is gone. */
export function reconsider(s: MachineState, out: Effect[]): void {
  if (s.pending === null) return
  const { from, message } = s.pending
  s.pending = null
  const { promised } = s.durable
  const isOver = promised !== null && compareBallots(message.ballot, promised) < 0
  if (!isOver && message.epoch === (s.durable.view?.epoch ?? 0) + 1) onPropose(s, from, message, out)
}

/** An acceptor accepts what a quorum has endorsed, unless it has promised a higher ballot. */
export function onAccept(s: MachineState, from: string, m: ViewMessageOf<'accept'>, out: Effect[]): void {
  const { ballot } = m.certificate
  if (!isAbout(m, m.value) || !mayVote(s, from, m, ballot, out)) return
  const signature = accept(s, m, out)
  if (signature === null) return
  const { ringId, epoch } = m
  const message: ViewMessage = { t: 'accepted', ringId, epoch, ballot, signature: text(signature) }
  out.push({ do: 'send', to: from, message })
}

/** Durable promise. From here on this epoch prepares no round, which is what makes the report in it final. */
export function promise(
  s: MachineState,
  epoch: number,
  ringId: string,
  ballot: Ballot,
  out: Effect[],
): Promised {
  freeze(s, epoch, ballot, out)
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

/** Signs for a value in a ballot, one only; null when it does not fit. */
export function endorse(s: MachineState, m: Proposed, out: Effect[]): Uint8Array | null {
  const { ballot, value } = m
  if (!mayEndorse(s, m)) return null
  freeze(s, value.epoch, ballot, out)
  s.durable = { ...s.durable, promised: ballot, endorsed: { ballot, hash: valueHash(value) } }
  out.push({ do: 'persist', durable: s.durable, withResult: false })
  return signVote(s, questionOf(s, 'endorse', ballot, value))
}

/** Accepts and signs; null when the endorsement is none. */
export function accept(s: MachineState, { value, certificate }: Proven, out: Effect[]): Uint8Array | null {
  const { view, accepted } = s.durable
  if (view === null || !isCertified(s, 'endorse', view, value, certificate)) return null
  const { ballot } = certificate
  const isAgain = accepted !== null && compareBallots(accepted.certificate.ballot, ballot) === 0
  if (isAgain && valueHash(accepted.value) !== valueHash(value)) return null
  freeze(s, value.epoch, ballot, out)
  s.durable = { ...s.durable, promised: ballot, accepted: { value, certificate } }
  out.push({ do: 'persist', durable: s.durable, withResult: false })
  return signVote(s, questionOf(s, 'accept', ballot, value))
}

/** What a vote of this node for the next view is about. */
export function questionOf(s: MachineState, kind: VoteKind, ballot: Ballot, value: ViewValue): Question {
  return { kind, job: s.options.job, before: s.durable.view, ballot, value }
}

/**
 * One value in a ballot; not another than the one accepted, unless a quorum has endorsed it in a later ballot; and a value
 * that no quorum has endorsed before only if it fits what this node sees.
 */
function mayEndorse(s: MachineState, { ballot, value, endorsement }: Proposed): boolean {
  const { view, endorsed, accepted } = s.durable
  if (view === null) return false
  const hash = valueHash(value)
  if (endorsed !== null && compareBallots(endorsed.ballot, ballot) === 0) return endorsed.hash === hash
  const isSame = accepted !== null && valueHash(accepted.value) === hash
  if (isSame) return true
  if (endorsement === null) {
    if (accepted !== null) return false
    noteQuarrels(s)
    return objection(s, value) === null
  }
  if (compareBallots(endorsement.ballot, ballot) >= 0) return false
  if (accepted !== null && compareBallots(endorsement.ballot, accepted.certificate.ballot) <= 0) return false
  return isCertified(s, 'endorse', view, value, endorsement)
}

/** Whether a message is about the next epoch, from its ballot's owner, and not below what was promised. */
function mayVote(
  s: MachineState,
  from: string,
  m: { readonly ringId: string; readonly epoch: number },
  ballot: Ballot,
  out: Effect[],
): boolean {
  const view = s.durable.view
  if (view === null || m.ringId !== view.ringId || !isAcceptor(s, s.options.self)) return false
  if (m.epoch <= view.epoch) {
    const path = pathFor(s, m.epoch - 1)
    out.push({ do: 'send', to: from, message: { t: 'decided', path } })
    return false
  }
  if (m.epoch !== view.epoch + 1 || ballot.peer !== from || !isAcceptor(s, from)) return false
  const { promised } = s.durable
  if (promised !== null && compareBallots(ballot, promised) < 0) {
    const { ringId, epoch } = m
    out.push({ do: 'send', to: from, message: { t: 'nack', ringId, epoch, promised } })
    return false
  }
  if (isOutOfReach(s, ballot.n)) return false
  if (s.proposal !== null && compareBallots(s.proposal.ballot, ballot) < 0) s.proposal = null
  if (s.pending !== null && compareBallots(s.pending.message.ballot, ballot) < 0) s.pending = null
  return true
}

/**
 * Whether a ballot's number is so far above all others that it may be a liar's. This node follows it only a step at a
 * time, so that numbers never come to their end, and those that a liar has told apart meet again.
 */
export function isOutOfReach(s: MachineState, n: number): boolean {
  const highest = Math.max(s.highestBallot, s.durable.promised?.n ?? 0)
  if (n <= highest + MAX_BALLOT_STEP) return false
  s.highestBallot = highest + MAX_BALLOT_STEP
  return true
}

/** This epoch prepares nothing more, and the promised ballot never goes down: that is what makes a vote final. */
function freeze(s: MachineState, epoch: number, ballot: Ballot, out: Effect[]): void {
  stopRound(s, 'VIEW_CHANGED', `epoch ${epoch} is being agreed`, out)
  s.frozen = true
  s.turn = null
  s.dirty = true
  if (s.durable.promised !== null && compareBallots(ballot, s.durable.promised) < 0) {
    throw new Error(`promised ballot would go down from ${s.durable.promised.n} to ${ballot.n}`)
  }
  s.highestBallot = Math.max(s.highestBallot, ballot.n)
}

function isAbout(m: { readonly ringId: string; readonly epoch: number }, value: ViewValue): boolean {
  return value.epoch === m.epoch && value.ringId === m.ringId
}

function scopeOf({ ringId, epoch, ballot }: Proposed): Pick<Proposed, 'ringId' | 'epoch' | 'ballot'> {
  return { ringId, epoch, ballot }
}

/** Bytes as they travel in messages. */
function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}
