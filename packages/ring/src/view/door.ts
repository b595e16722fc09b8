/** Who may not come straight back. */
import { accusationPartners, accusedMembers } from './accusations.ts'
import type { MachineState } from './state.ts'
import { bootOf, statusOf, unfitMembers } from './state.ts'
import type { ViewValue } from './messages.ts'

/** A member left out on accusation may come back after this many peer timeouts. */
const DOOR_CLOSED_TIMEOUTS = 10

/** Remembers whom this node's proposal leaves out although it lives. */
export function closeDoor(s: MachineState): void {
  for (const peer of accusedMembers(s, unfitMembers(s))) {
    if (bootOf(s, peer) !== null && peer !== s.options.self) shut(s, peer)
  }
}

/**
 * The same for a view that another has proposed, before it is taken over. Whoever hears both of two that cannot hear each
 * other would otherwise let in at once the one that was left out, and the other would have to leave it out again. One
 * that was silent, and so was left out for that, may come back as soon as it is heard.
 */
export function closeDoorBehind(s: MachineState, next: ViewValue): void {
  const view = s.durable.view
  if (view?.ringId !== next.ringId) return
  const kept = new Set(next.members.map(({ peer }) => peer))
  const unfit = unfitMembers(s)
  for (const { peer, boot } of view.members) {
    const isSame = bootOf(s, peer) === boot && statusOf(s, peer)?.leaving === false
    if (kept.has(peer) || peer === s.options.self || !isSame || !isHeard(s, peer)) continue
    if ([...accusationPartners(s, peer, unfit)].some((partner) => kept.has(partner))) shut(s, peer)
  }
}

function shut(s: MachineState, peer: string): void {
  s.doorClosed.set(peer, s.now + DOOR_CLOSED_TIMEOUTS * s.options.peerTimeoutMs)
}

/** Whether a sign of life came within the last half timeout. */
function isHeard(s: MachineState, peer: string): boolean {
  const deadline = s.peers.get(peer)?.deadline ?? -Infinity
  return deadline - s.now > s.options.peerTimeoutMs / 2
}
