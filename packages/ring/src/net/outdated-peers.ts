/**
 * Gym nodes of before votes were signed cannot take part: to each other, both versions look like programs of another
 * kind. So the newer one says what it is that it has met.
 */
import type { Libp2p } from '@libp2p/interface'
import { CONTROL_PROTOCOL, UNSIGNED_CONTROL_PROTOCOL } from '../defaults.ts'
import { RingError } from '../errors.ts'
import type { Strangers } from './strangers.ts'

/** Reports each such peer, at most once in a while. */
export function reportOutdated(node: Libp2p, strangers: Strangers, report: (error: RingError) => void): void {
  node.addEventListener('peer:identify', ({ detail: { peerId, protocols } }) => {
    if (protocols.includes(CONTROL_PROTOCOL) || !protocols.includes(UNSIGNED_CONTROL_PROTOCOL)) return
    const peer = peerId.toString()
    if (strangers.isOutdated(peer)) return
    strangers.noteOutdated(peer)
    const seen = `peer speaks ${UNSIGNED_CONTROL_PROTOCOL}, expected ${CONTROL_PROTOCOL}`
    const message = `${seen}: its gym-node is older and does not sign its votes; update it`
    report(new RingError('PEER_DENIED', message, { peer }))
  })
}
