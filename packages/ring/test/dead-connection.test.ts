/** Connections that died without a word: whoever is behind one is found again, long before TCP gives it up. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { withoutPeer, until } from './net-rig.ts'
import { Proxy } from './proxy-rig.ts'
import { deadline, startNode, stopAll, type RigNode } from './rig.ts'

const hasView = (nodes: readonly RigNode[]): boolean =>
  nodes.every(({ ring }) => ring.status.phase === 'member' && ring.view?.members.length === nodes.length)

describe('a connection that died without a word', { concurrency: true }, () => {
  for (const [what, dialler] of [
    ['the peer with the lower id dialled', 0],
    ['the peer with the higher id dialled', 1],
  ] as const) {
    it(`is replaced, and the ring is whole again, where ${what}`, async () => {
      // Node 1 has a lower id than node 0 or the other way round: both orders are tried.
      const order = [1, 0].map((n) => (dialler === 0 ? n : 1 - n))
      const first = await startNode(order[0] ?? 0, { minMembers: 2, peerTimeoutMs: 400 })
      const port = Number(/tcp\/(\d+)/.exec(first.ring.addresses[0] ?? '')?.[1])
      const proxy = new Proxy(port)
      const bootstrap = [withoutPeer(await proxy.start())]
      const second = await startNode(order[1] ?? 1, { minMembers: 2, peerTimeoutMs: 400, bootstrap })
      const nodes = [first, second]
      try {
        const signal = deadline(nodes, 30_000)
        await until(() => hasView(nodes), signal)
        proxy.forget()
        await until(() => nodes.some(({ ring }) => ring.status.phase === 'minority'), signal)
        await until(() => hasView(nodes), signal)
        assert.deepEqual(
          nodes.map(({ ring }) => ring.status.phase),
          ['member', 'member'],
        )
      } finally {
        await stopAll(nodes)
        proxy.stop()
      }
    })
  }
})
