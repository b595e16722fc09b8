/** Who may connect at all: libp2p's connection gater, with the deny list and the limits that libp2p has no option for. */
import type { ConnectionGater, PeerId } from '@libp2p/interface'
import type { NetCounters } from './net-counters.ts'

/** What the gate decides by. */
export interface GateOptions {
  /** peers that are never talked to; the allow list is enforced by the ring's own protocols, as relays are not of the job */
  readonly isDenied: (peer: string) => boolean
  /** open connections with a peer now */
  readonly connectionsWith: (peer: PeerId) => number
  readonly connectionsPerPeer: number
  readonly counters: NetCounters
}

/** The gate as libp2p asks for it. */
export function createGate(o: GateOptions): ConnectionGater {
  const denied = (peer: PeerId): boolean => {
    const isDenied = o.isDenied(peer.toString())
    if (isDenied) o.counters.hit('denied')
    return isDenied
  }
  const crowded = (peer: PeerId): boolean => {
    const isCrowded = o.connectionsWith(peer) >= o.connectionsPerPeer
    if (isCrowded) o.counters.hit('connections_per_peer')
    return isCrowded
  }
  return {
    denyDialPeer: denied,
    denyInboundEncryptedConnection: (peer) => denied(peer) || crowded(peer),
    denyOutboundEncryptedConnection: denied,
    denyInboundRelayedConnection: (_relay, peer) => denied(peer),
    // libp2p's default refuses private addresses in browsers only; a ring in one house needs them.
    denyDialMultiaddr: () => false,
  }
}
