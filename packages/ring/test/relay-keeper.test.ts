/** At which relays a node takes its places, with relays that are only said to be there. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Connection, Libp2p } from '@libp2p/interface'
import type { TransportManager } from '@libp2p/interface-internal'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr, type Multiaddr } from '@multiformats/multiaddr'
import { RELAY_PLACES } from '../src/net/defaults.ts'
import { RelayKeeper } from '../src/reach/relay-keeper.ts'
import { identityOf, loggerFor } from './rig.ts'

const HOP = '/libp2p/circuit/relay/0.2.0/hop'

it('a place at the relay that the operator named is taken, also when others that call themselves relays were first', async () => {
  const relays = [1, 2, 3, 4].map((n) => peerIdFromString(identityOf(n).peerId))
  const named = relays[3]
  assert.ok(named)
  const taken: Multiaddr[] = []
  let connected = relays.slice(0, 3)
  const node = {
    getPeers: () => connected,
    getMultiaddrs: () => taken,
    getConnections: () => [{ remoteAddr: multiaddr('/ip4/192.0.2.1/tcp/1') } as Connection],
    peerStore: { get: async () => ({ protocols: [HOP] }) },
  } as unknown as Libp2p
  const transports = {
    listen: async (addresses: Multiaddr[]) => void taken.push(...addresses),
  } as unknown as TransportManager
  const keeper = new RelayKeeper({ node, transports, named: [named.toString()], logger: loggerFor('keeper') })
  await keeper.keep()
  assert.equal(keeper.places.size, RELAY_PLACES)
  connected = relays
  await keeper.keep()
  await keeper.keep()
  assert.equal(keeper.places.size, RELAY_PLACES + 1)
  assert.ok(keeper.places.has(named.toString()))
})
