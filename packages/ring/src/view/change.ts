/** When the view must change, to which members, and whose task it is to propose it. */
import type { Effect, MachineState, Proposal } from './state.ts'
import {
  aliveAcceptors,
  compareText,
  isAcceptor,
  isAlive,
  isParticipant,
  memberStatus,
  statusOf,
  STRIKES,
  unfitMembers,
} from './state.ts'
import { LEAST_GAIN, orderMembers } from '../order/order.ts'
import type { Member, ViewValue } from './messages.ts'
import { accusedMembers, noteQuarrels } from './accusations.ts'
import { closeDoor } from './door.ts'
import { startBallot } from './proposer.ts'

/** A view is not changed for its order alone before it has done this many rounds, and for a smaller gain. */
const REORDER_ROUNDS = 8
const REORDER_GAIN = 2 * LEAST_GAIN

/** First wait after an abandoned round, doubled with each in a row: 50 ms hides a glitch and spares a broken link. */
const CHURN_BASE_MS = 50

/** A newcomer that a quorum does not know may be proposed again after this many peer timeouts. */
const STRANGER_TIMEOUTS = 2

/** Proposes the next view if there is a reason and it is this node's turn to do so. */
export function considerChange(s: MachineState, out: Effect[]): void {
  const self = s.options.self
  if (s.durable.view === null || !isAcceptor(s, self)) return
  if (s.proposal !== null ? s.now < s.proposal.retryAt : s.now < s.proposeAfter) return
  if (s.proposal !== null) keepStrangersOut(s, s.proposal)
  s.proposal = null
  if (!hasReason(s)) {
    s.reasonSince = null
    return
  }
  noteQuarrels(s)
  s.reasonSince ??= s.now
  const rank = proposerRank(s)
  if (rank === null || s.now - s.reasonSince < (rank * s.options.peerTimeoutMs) / 2) return
  closeDoor(s)
  startBallot(s, () => desiredMembers(s), out)
}

/** The members of the next view, in an order that is short by what is known of their paths, else as they come. */
export function desiredMembers(s: MachineState): Member[] {
  const members = fitMembers(s, excludedMembers(s))
  const places = new Map(members.map((member) => [member.peer, member]))
  const { members: order } = orderMembers([...places.keys()], s.paths, {
    moveBytes: moveBytes(s, members.length),
  })
  return order.map((peer) => places.get(peer)).filter((member) => member !== undefined)
}

/** Those that stay, in their order, then those at the door, by peer id. */
function fitMembers(s: MachineState, excluded: ReadonlySet<string>): Member[] {
  const kept = (s.durable.view?.members ?? []).filter((member) => !excluded.has(member.peer))
  const keptPeers = new Set(kept.map((member) => member.peer))
  const door = joiners(s).filter((member) => !keptPeers.has(member.peer))
  return [...kept, ...door].slice(0, s.options.maxMembers)
}

function hasReason(s: MachineState): boolean {
  const view = s.durable.view
  if (view === null) return false
  if (s.frozen) return true
  const excluded = excludedMembers(s)
  if (view.members.some((member) => excluded.has(member.peer))) return true
  if (abandonedByAnyone(s) && s.now - s.adoptedAt >= churnDelay(s)) return true
  // A result that is committed but not yet in the caller's state could be lost with a crash just now: arrivals wait.
  if ((s.committed?.round ?? 0) > s.state.round) return false
  if (s.running) return false
  return fitMembers(s, excluded).length > view.members.length || reorderPays(s, view)
}

/** Whether the same members in another order are worth a view of their own: seldom, and only for a clear gain. */
function reorderPays(s: MachineState, view: ViewValue): boolean {
  if (s.state.round - view.start.round < REORDER_ROUNDS) return false
  if (s.reorder?.view !== view || s.reorder.paths !== s.paths) {
    const { gain } = orderMembers(
      view.members.map(({ peer }) => peer),
      s.paths,
      { moveBytes: moveBytes(s, view.members.length), leastGain: REORDER_GAIN },
    )
    s.reorder = { view, paths: s.paths, pays: gain > 0 }
  }
  return s.reorder.pays
}

/** What a member sends in one move of a round: its share of the vector that this node brought last. */
function moveBytes(s: MachineState, members: number): number {
  return Math.ceil(s.roundBytes / members)
}

function abandonedByAnyone(s: MachineState): boolean {
  if (s.abandoned) return true
  return (
    s.durable.view?.members.some((m) => isAlive(s, m.peer) && memberStatus(s, m)?.abandoned === true) ?? false
  )
}

function churnDelay(s: MachineState): number {
  return Math.min(s.options.peerTimeoutMs, CHURN_BASE_MS * 2 ** Math.min(s.churn, 10))
}

/** Whether no live acceptor that stays comes before this node. Whoever did when last asked mostly still does. */
export function isFirstProposer(s: MachineState): boolean {
  const { self } = s.options
  const isAhead = (peer: string): boolean =>
    compareText(peer, self) < 0 && isAlive(s, peer) && !(statusOf(s, peer)?.leaving ?? false)
  if (s.lastAhead !== null && isAhead(s.lastAhead)) return false
  s.lastAhead = s.durable.view?.members.find(({ peer }) => isAhead(peer))?.peer ?? null
  return s.lastAhead === null
}

/** 0 for the lowest live acceptor that stays, 1 for the next...; null when this node should not propose. */
function proposerRank(s: MachineState): number | null {
  const leaving = (peer: string): boolean =>
    peer === s.options.self ? s.leaving : (statusOf(s, peer)?.leaving ?? false)
  const alive = aliveAcceptors(s).sort(compareText)
  const rank = alive.filter((peer) => !leaving(peer)).indexOf(s.options.self)
  return rank < 0 ? null : rank
}

/** Processes that may enter: live peers of the job outside any ring or back in this one, and self after a restart. */
function joiners(s: MachineState): Member[] {
  const view = s.durable.view
  const found: Member[] = []
  if (!isParticipant(s) && !s.leaving) found.push({ peer: s.options.self, boot: s.boot })
  for (const [peer, record] of s.peers) {
    const status = record.status
    if (!record.connected || status === null || status.leaving || !isAlive(s, peer)) continue
    if (status.ringId !== null && status.ringId !== view?.ringId) continue
    if (s.now < (s.doorClosed.get(peer) ?? -Infinity) || (s.strikes.get(peer) ?? 0) >= STRIKES) continue
    found.push({ peer, boot: status.boot })
  }
  return found.sort((a, b) => compareText(a.peer, b.peer))
}

/** Dead, gone, restarted or leaving members, and live ones that some pair of members cannot work with. */
function excludedMembers(s: MachineState): Set<string> {
  const excluded = unfitMembers(s)
  for (const peer of accusedMembers(s, excluded)) excluded.add(peer)
  return excluded
}

/**
 * A newcomer that was proposed and that not enough members have met waits a while, so that the view can change for other
 * reasons meanwhile.
 */
function keepStrangersOut(s: MachineState, failed: Proposal): void {
  if (failed.value === null || failed.certificate !== null) return
  const known = new Set(s.durable.view?.members.map(({ peer }) => peer))
  for (const { peer } of failed.value.members) {
    if (!known.has(peer)) s.doorClosed.set(peer, s.now + STRANGER_TIMEOUTS * s.options.peerTimeoutMs)
  }
}
