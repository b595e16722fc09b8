/** What a node keeps of what others say about peers: bounded, and no obstacle to what it learns itself. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { DEFAULT_LIMITS } from '../src/defaults.ts'
import { KnownPeers } from '../src/net/known-peers.ts'
import { NetCounters } from '../src/net/net-counters.ts'
import { identityOf } from './rig.ts'

const [FIRST, SECOND, THIRD, FOURTH] = [0, 1, 2, 3].map((n) => identityOf(n).peerId)
const ADDRESSES = ['/ip4/192.0.2.1/tcp/4160']

describe('the list of known peers', () => {
  it('when full keeps who was met, and forgets hearsay for a peer that came itself', () => {
    const known = new KnownPeers({ ...DEFAULT_LIMITS, knownPeers: 2 }, new NetCounters())
    assert.ok(known.learn({ peer: FIRST, addresses: ADDRESSES }, 'peer'))
    assert.ok(known.learn({ peer: SECOND, addresses: ADDRESSES }, 'peer'))
    known.noteMet(FIRST)
    assert.ok(!known.learn({ peer: THIRD, addresses: ADDRESSES }, 'peer'), 'more hearsay finds no room')
    assert.ok(known.learn({ peer: THIRD, addresses: ADDRESSES }, 'inbound'))
    assert.equal(known.addressesOf(FIRST).length, 1)
    assert.equal(known.addressesOf(SECOND).length, 0)
    assert.ok(!known.learn({ peer: FOURTH, addresses: ADDRESSES }, 'inbound'), 'nothing is left to forget')
  })
})
