/** What the rest of the node asks the machine: its phase, and which state the ring agrees on. Pure. */
import type { MemberStatus, RingPhase, View } from '../types.ts'
import type { MachineState } from './state.ts'
import {
  aliveAcceptors,
  compareText,
  isAlive,
  isParticipant,
  quorumOf,
  memberStatus,
  reachedRound,
} from './state.ts'

/** Whether this member of a view cannot reach the quorum of it. Never with quorum `any`. */
export function isMinority(s: MachineState): boolean {
  const view = s.durable.view
  if (view === null || s.options.quorum === 'any') return false
  return aliveAcceptors(s).length < quorumOf(s, view.members.length)
}

/** The state every member must hold before the next round, and who has it. */
export interface RingTarget {
  readonly round: number
  /** null while the round is known to be committed but nobody reports its state yet */
  readonly hash: string | null
  readonly sources: readonly string[]
}

/**
 * The newest round any live member reached, with the state hash that most of them report (ties: the lowest peer id's).
 * Null while this node is not in a view or has not heard every live member in this epoch.
 */
export function ringTarget(s: MachineState): RingTarget | null {
  const view = s.durable.view
  if (view === null || !isParticipant(s)) return null
  const reports: { peer: string; round: number; hash: string }[] = []
  let round = Math.max(reachedRound(s), view.start.round)
  for (const member of view.members) {
    if (member.peer === s.options.self) {
      reports.push({ peer: member.peer, ...s.state })
      continue
    }
    const status = memberStatus(s, member)
    if (status === null) {
      if (isAlive(s, member.peer)) return null
      continue
    }
    reports.push({ peer: member.peer, ...status.state })
    round = Math.max(round, reachedRound(status))
  }
  const newest = reports.filter((report) => report.round === round)
  const hash = plurality(newest.map((report) => ({ peer: report.peer, key: report.hash })))
  const sources = newest.filter((r) => r.hash === hash && r.peer !== s.options.self).map((r) => r.peer)
  return { round, hash, sources }
}

/**
 * Whether this node's state is the ring's; or one round short of it while the missing round's committed result is held
 * here (after a crash between commit and apply): the caller's next all-reduce hands it out at once.
 */
export function isSynced(s: MachineState): boolean {
  const start = s.durable.view?.start
  const hasStart = start !== undefined && start.result !== null && start.result === s.held?.hash
  if (isParticipant(s) && hasStart && start.round === s.state.round + 1 && s.held?.round === start.round)
    return true
  const target = ringTarget(s)
  return target !== null && target.round === s.state.round && target.hash === s.state.hash
}

/** The phase as an operator sees it. */
export function phaseOf(s: MachineState): Exclude<RingPhase, 'stopped'> {
  if (isParticipant(s)) {
    if (isMinority(s)) return 'minority'
    return isSynced(s) ? 'member' : 'syncing'
  }
  const anyPeer = [...s.peers.values()].some((record) => record.status !== null && s.now < record.deadline)
  return anyPeer ? 'forming' : 'alone'
}

/** The other peers of the job as an operator sees them. */
export function describePeers(s: MachineState, view: View | null): MemberStatus[] {
  const members = new Set(view?.members ?? [])
  const known = [...s.peers].filter(([peer, record]) => record.status !== null || members.has(peer))
  return known.map(([peerId, record]) => ({
    peerId,
    inView: members.has(peerId),
    alive: isAlive(s, peerId),
    round: record.status?.state.round ?? null,
  }))
}

/** The key that most voters name; a tie goes to the one that the lowest peer id names; null without voters. */
export function plurality(votes: readonly { readonly peer: string; readonly key: string }[]): string | null {
  const counts = new Map<string, { count: number; lowest: string }>()
  for (const { peer, key } of votes) {
    const entry = counts.get(key)
    if (entry === undefined) counts.set(key, { count: 1, lowest: peer })
    else {
      entry.count += 1
      if (compareText(peer, entry.lowest) < 0) entry.lowest = peer
    }
  }
  let best: string | null = null
  for (const [key, entry] of counts) {
    const leader = best === null ? undefined : counts.get(best)
    const wins =
      leader === undefined ||
      entry.count > leader.count ||
      (entry.count === leader.count && compareText(entry.lowest, leader.lowest) < 0)
    if (wins) best = key
  }
  return best
}
