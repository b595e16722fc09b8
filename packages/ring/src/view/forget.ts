/** Forgets peers that are long gone: whoever can make new identities must not fill this node's memory with them. */
import type { MachineState } from './state.ts'
import { isAcceptor } from './state.ts'

/** A peer that is in no view is remembered this many peer timeouts after it was last heard; longer than any door stays shut. */
const FORGOTTEN_TIMEOUTS = 20

/** Called with every tick; looks once in a peer timeout. */
export function forgetGone(s: MachineState): void {
  if (s.now < s.forgetAt) return
  s.forgetAt = s.now + s.options.peerTimeoutMs
  const before = s.now - FORGOTTEN_TIMEOUTS * s.options.peerTimeoutMs
  for (const [peer, record] of s.peers) {
    if (record.connected || record.deadline > before || isAcceptor(s, peer)) continue
    s.peers.delete(peer)
    s.strikes.delete(peer)
    s.quarrels.delete(peer)
    s.doorClosed.delete(peer)
  }
}
