/**
 * Two rings of one job, or two halves that quorum `any` let part, become one: the lesser dissolves. What another ring is
 * said to be counts only as far as this node hears its members itself, so that one liar cannot talk a ring away.
 */
import type { Effect, MachineState } from './state.ts'
import { compareText, isAlive, isParticipant, memberStatus, reachedRound } from './state.ts'
import type { StatusMessage } from './messages.ts'
import { dissolveView } from './adopt.ts'
import { isMinority } from './questions.ts'
import { viewId } from './vote.ts'

/** A node without a quorum, or outside the view of its ring, holds on to its vote for this many peer timeouts. */
export const LONELY_TIMEOUTS = 10

/** Called with every status: the larger ring goes on, of equals the one with more rounds, then the lower name. */
export function considerMerge(s: MachineState, other: StatusMessage, out: Effect[]): void {
  const view = s.durable.view
  if (view === null || other.ringId === null || other.viewId === null || !other.active) return
  const sameLine =
    other.ringId === view.ringId && (other.epoch !== view.epoch || other.viewId === viewId(view))
  if (sameLine) return
  const isAny = s.options.quorum === 'any'
  const own = { round: reachedRound(s), name: view.ringId + viewId(view), size: isAny ? 0 : ownSize(s) }
  const theirs = {
    round: reachedRound(other),
    name: other.ringId + other.viewId,
    size: isAny ? 0 : sizeOf(s, other.ringId),
  }
  const isActive = isParticipant(s) && !isMinority(s)
  if (isActive ? goesBefore(theirs, own) : isAny || isLonely(s))
    dissolveView(s, `ring ${other.ringId} of the same job goes before this one`, out)
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

/** Members of this node's view that it hears in it, itself included. */
function ownSize(s: MachineState): number {
  const members = s.durable.view?.members ?? []
  return members.filter(
    (m) => m.peer === s.options.self || (isAlive(s, m.peer) && memberStatus(s, m) !== null),
  ).length
}

/** Peers that say themselves that they take part in another ring. */
function sizeOf(s: MachineState, ringId: string): number {
  let size = 0
  for (const [peer, { status }] of s.peers) {
    if (status?.ringId === ringId && status.active && isAlive(s, peer)) size += 1
  }
  return size
}
