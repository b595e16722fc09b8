/**
 * Tells peers that have missed a view. All members notice one that lags; a few of them speak, and the next few only
 * when that was not heard, so that a large ring does not answer one message with a thousand.
 */
import { HEARTBEATS_PER_TIMEOUT } from '../defaults.ts'
import type { Effect, MachineState, PeerRecord } from './state.ts'
import type { StatusMessage } from './messages.ts'
import { pathFor } from './path.ts'

/** Members that speak at once; as many more with every heartbeat that goes by without effect. */
const SPEAKERS = 4

/** Called with every status: a peer that is in an older view, or was named and knows of none, is told. */
export function informLaggard(
  s: MachineState,
  from: string,
  record: PeerRecord,
  status: StatusMessage,
  out: Effect[],
): void {
  const view = s.durable.view
  if (view === null || !isBehind(s, from, status)) {
    record.behind = null
    return
  }
  if (record.behind?.epoch !== view.epoch)
    record.behind = { epoch: view.epoch, since: s.now, toldAt: -Infinity }
  const heartbeatMs = s.options.peerTimeoutMs / HEARTBEATS_PER_TIMEOUT
  const { since, toldAt } = record.behind
  const turnAt = since + Math.floor(rankBehind(s, from) / SPEAKERS) * heartbeatMs
  // Half a heartbeat: one that comes a little early is still another heartbeat.
  if (s.now < turnAt || s.now - toldAt < heartbeatMs / 2) return
  record.behind.toldAt = s.now
  const path = pathFor(s, status.ringId === null ? null : status.epoch)
  out.push({ do: 'send', to: from, message: { t: 'decided', path } })
}

function isBehind(s: MachineState, from: string, status: StatusMessage): boolean {
  const view = s.durable.view
  if (view === null) return false
  if (status.ringId === null) return view.members.some((member) => member.peer === from)
  return status.ringId === view.ringId && status.epoch < view.epoch
}

/** How far behind `from` in the order of the ring this node is: 0 for the next one, other for everybody. */
function rankBehind(s: MachineState, from: string): number {
  const members = s.durable.view?.members ?? []
  const own = members.findIndex((member) => member.peer === s.options.self)
  const theirs = members.findIndex((member) => member.peer === from)
  return own < 0 ? members.length : (own - theirs - 1 + members.length) % members.length
}
