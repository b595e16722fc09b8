/**
 * Whether a member endorses the view that another proposes: by what it sees and hears itself, not by what it is told.
 * A hostile proposer gets no votes for a view without those that the others work with well, nor for one with strangers.
 */
import { accusationPartners } from './accusations.ts'
import type { MachineState } from './state.ts'
import { bootOf, isAlive, statusOf, unfitMembers } from './state.ts'
import { mayStartAt } from './start.ts'
import type { ViewValue } from './messages.ts'

/** Why a proposal gets no vote now, or null. `members` may pass as news comes in; `start` does not. */
export function objection(s: MachineState, value: ViewValue): 'start' | 'members' | null {
  if (s.options.quorum === 'any') return null
  if (!mayStartAt(s, value.start)) return 'start'
  return hasOnlyKnown(s, value) && keepsTheFit(s, value) ? null : 'members'
}

/** Each peer once, each in a process that this node has met (or as it stands in the view that is left). */
function hasOnlyKnown(s: MachineState, value: ViewValue): boolean {
  const view = s.durable.view
  const boots = new Map(view?.members.map(({ peer, boot }) => [peer, boot]))
  const peers = new Set(value.members.map(({ peer }) => peer))
  if (peers.size !== value.members.length || peers.size > s.options.maxMembers) return false
  return value.members.every(({ peer, boot }) => {
    if (boots.get(peer) === boot) return true
    if (bootOf(s, peer) !== boot || !isAlive(s, peer)) return false
    const ringId = peer === s.options.self ? view?.ringId : statusOf(s, peer)?.ringId
    return ringId == null || ringId === view?.ringId
  })
}

/**
 * Members that this node finds fit stay, itself and those that came back in another process among them, unless they and one that stays cannot work with each other:
 * of such two the one that has that with more members goes, of equals either. So that one member cannot put out several,
 * each that stays is a reason for one to go.
 */
function keepsTheFit(s: MachineState, value: ViewValue): boolean {
  const kept = new Set(value.members.map(({ peer }) => peer))
  const unfit = unfitMembers(s)
  const blamed = new Set<string>()
  for (const { peer } of s.durable.view?.members ?? []) {
    if (kept.has(peer) || (unfit.has(peer) && !isBack(s, peer))) continue
    const partners = accusationPartners(s, peer, unfit)
    const reason = [...partners].find(
      (other) =>
        kept.has(other) && !blamed.has(other) && accusationPartners(s, other, unfit).size <= partners.size,
    )
    if (reason === undefined) return false
    blamed.add(reason)
  }
  return true
}

/** Whether a member that restarted waits at the door under a new name; after a crash of all, all do. */
function isBack(s: MachineState, peer: string): boolean {
  if (peer === s.options.self) return !s.leaving
  const record = s.peers.get(peer)
  if (record?.status == null || !record.connected || record.status.leaving || !isAlive(s, peer)) return false
  const { ringId } = record.status
  return ringId === null || ringId === s.durable.view?.ringId
}
