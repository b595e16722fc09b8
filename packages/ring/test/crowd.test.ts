/** More connections than a node keeps: who goes, and that a newcomer still gets in. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { whoGoes, type Guest } from '../src/net/crowd.ts'
import { startBareNode, until } from './net-rig.ts'
import { deadline, identityOf, startNode, stopAll } from './rig.ts'

const guest = (name: string, change: Partial<Guest>) => ({
  name,
  isNeeded: false,
  hasSpoken: false,
  isInbound: true,
  host: name,
  openedAt: 100,
  ...change,
})

describe('when there is no room', () => {
  it('goes who is needed least, then who has most company, then who came first', () => {
    const cases = [
      [[guest('a', { isNeeded: true })], undefined],
      [[guest('a', { hasSpoken: true, openedAt: 1 }), guest('b', {})], 'b'],
      [[guest('a', { isInbound: false, openedAt: 1 }), guest('b', {})], 'b'],
      [[guest('a', { openedAt: 1 }), guest('b', { host: 'x' }), guest('c', { host: 'x', openedAt: 2 })], 'c'],
      [[guest('a', { openedAt: 2 }), guest('b', { openedAt: 1 })], 'b'],
    ] as const
    for (const [guests, name] of cases) assert.equal(whoGoes<(typeof guests)[number]>(guests)?.name, name)
  })

  it('a newcomer enters a ring whose node is full of idle strangers', async () => {
    const most = 4
    const node = await startNode(1, { minMembers: 1, limits: { connections: most } })
    const nodes = [node]
    const strangers = await Promise.all(
      Array.from({ length: most + 2 }, (_, i) => startBareNode(identityOf(100 + i))),
    )
    try {
      const signal = deadline(nodes, 30_000)
      await node.ring.ready({ signal })
      const addresses = node.ring.addresses.map((address) => multiaddr(address))
      for (const stranger of strangers) await stranger.dial(addresses, { signal })
      await until(() => node.ring.status.network.connections === most, signal)
      const newcomer = await startNode(2, { minMembers: 1, bootstrap: [...node.ring.addresses] })
      nodes.push(newcomer)
      await until(() => nodes.every(({ ring }) => ring.view?.members.length === 2), signal)
      assert.ok((node.ring.status.network.limits.connections ?? 0) > 0)
      // Whoever is in the ring stays, also when more strangers come than there is room for.
      for (const stranger of strangers) {
        await stranger.hangUp(peerIdFromString(node.ring.peerId), { signal })
        await stranger.dial(addresses, { signal })
      }
      await until(() => node.ring.status.network.connections <= most, signal)
      assert.deepEqual(node.ring.peers(), [newcomer.ring.peerId])
    } finally {
      await Promise.all(strangers.map(async (stranger) => stranger.stop()))
      await stopAll(nodes)
    }
  })
})
