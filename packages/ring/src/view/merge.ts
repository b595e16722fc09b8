/**
 * Two rings of one job, or two halves that quorum `any` let part, become one: the lesser dissolves. What another ring is
 * said to be counts only as far as this node hears its members itself, so that one liar cannot talk a ring away.
 */
import type { Effect, MachineState } from './state.ts'
import { compareText, isAcceptor, isAlive, isParticipant, memberStatus, reachedRound } from './state.ts'
import type { StatusMessage } from './messages.ts'
import { dissolveView } from './adopt.ts'
import { isMinority } from './questions.ts'
import { viewId } from './vote.ts'

/** A node without a quorum, or outside the view of its ring, holds on to its vote for this many peer timeouts. */
export const LONELY_TIMEOUTS = 10

/**
 * Called with every status. The larger ring goes on, of equals the one with more rounds, then the lower name. A node that
 * is long without a quorum, or outside its ring's view, gives way to a larger ring only: else it keeps its vote for those
 * of its own that may come back.
 */
export function considerMerge(s: MachineState, other: StatusMessage, out: Effect[]): void {
  const view = s.durable.view
  if (view === null || other.ringId === null || other.viewId === null || !other.active) return
  if (other.ringId === view.ringId && other.viewId === viewId(view)) return
  if (other.ringId === view.ringId && other.epoch !== view.epoch) {
    if (isOffTheLine(s))
      dissolveView(s, 'this view leads away from the ring, whose members are elsewhere', out)
    return
  }
  const isAny = s.options.quorum === 'any'
  const isActive = isParticipant(s) && !isMinority(s)
  const own = { round: reachedRound(s), name: view.ringId + viewId(view), size: isAny ? 0 : ownSize(s) }
  const theirs = {
    round: reachedRound(other),
    name: other.ringId + other.viewId,
    size: isAny ? 0 : sizeOf(s, other.ringId, !isActive),
  }
  if (!isAny && theirs.size === 0) return
  const givesWay = isAny || (isLonely(s) && theirs.size > own.size)
  if (isActive ? goesBefore(theirs, own) : givesWay)
    dissolveView(s, `ring ${other.ringId} of the same job goes before this one`, out)
}

/**
 * Whether more peers are active in an older view of this ring than stand with this node, and stay there whatever they are
 * told: then it is this node that was led away, when it could not check what it was told.
 */
function isOffTheLine(s: MachineState): boolean {
  if (s.options.quorum === 'any') return false
  const patienceMs = 2 * LONELY_TIMEOUTS * s.options.peerTimeoutMs
  let elsewhere = 0
  for (const [peer, { status, behind }] of s.peers) {
    const isThere = status?.ringId === s.durable.view?.ringId && status?.active === true && isAlive(s, peer)
    if (isThere && behind !== null && s.now - behind.since >= patienceMs) elsewhere += 1
  }
  const here = s.durable.view?.members.filter(
    (m) => m.peer === s.options.self || (isAlive(s, m.peer) && memberStatus(s, m) !== null),
  )
  return elsewhere > (here?.length ?? 0)
}

/** Whether this node has been without a quorum, or outside its ring's view, for so long that it may give its vote up. */
export function isLonely(s: MachineState): boolean {
  return s.lonelySince !== null && s.now - s.lonelySince >= LONELY_TIMEOUTS * s.options.peerTimeoutMs
}

interface Ring {
  readonly size: number
  readonly round: number
  readonly name: string
}

function goesBefore(a: Ring, b: Ring): boolean {
  if (a.size !== b.size) return a.size > b.size
  if (a.round !== b.round) return a.round > b.round
  return compareText(a.name, b.name) < 0
}

/** This node and the peers that are in its ring, in whatever view of it. */
function ownSize(s: MachineState): number {
  const ringId = s.durable.view?.ringId
  let size = 1
  for (const [peer, { status }] of s.peers) if (status?.ringId === ringId && isAlive(s, peer)) size += 1
  return size
}

/** Peers that say themselves that they take part in another ring; those who left this one only where it has no quorum. */
function sizeOf(s: MachineState, ringId: string, withOwn: boolean): number {
  let size = 0
  for (const [peer, { status }] of s.peers) {
    if (status?.ringId === ringId && status.active && isAlive(s, peer) && (withOwn || !isAcceptor(s, peer)))
      size += 1
  }
  return size
}
