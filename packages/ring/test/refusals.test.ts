/** What a node refuses, by name: a port in use, bad options, garbage from a peer. */
import { once } from 'node:events'
import net from 'node:net'
import { describe, it } from 'node:test'
import { multiaddr } from '@multiformats/multiaddr'
import assert from 'node:assert/strict'
import { createRing, RingError, type RingErrorCode } from '../src/index.ts'
import { CONTROL_PROTOCOL } from '../src/defaults.ts'
import { startBareNode } from './net-rig.ts'
import {
  deadline,
  identityBelow,
  identityOf,
  loggerFor,
  MemoryStore,
  startNode,
  stopAll,
  ToyState,
} from './rig.ts'

const hasCode =
  (code: RingErrorCode) =>
  (error: unknown): boolean =>
    error instanceof RingError && error.code === code

const base = {
  identity: identityOf(1),
  job: 'test',
  listen: ['/ip4/127.0.0.1/tcp/0'],
  bootstrap: [],
  mdns: false,
  minMembers: 1,
  quorum: 'majority',
  peerTimeoutMs: 1000,
  wire: 'f32',
  integrity: 'sealed',
  state: new ToyState(),
  store: new MemoryStore(),
  logger: loggerFor('refusals'),
} as const

describe('a node', () => {
  it('says PORT_IN_USE and what to do', async () => {
    const server = net.createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as net.AddressInfo
    const ring = await createRing({ ...base, listen: [`/ip4/127.0.0.1/tcp/${port}`] })
    try {
      await assert.rejects(
        ring.start(),
        (error) =>
          hasCode('PORT_IN_USE')(error) && error instanceof Error && error.message.includes('another port'),
      )
    } finally {
      await ring.stop()
      server.close()
    }
  })

  it('refuses options it cannot work with, and a weight that is no weight', async () => {
    await assert.rejects(createRing({ ...base, minMembers: 0 }), hasCode('BAD_ARGUMENT'))
    const node = await startNode(1, { minMembers: 1 })
    try {
      const signal = deadline([node])
      await node.ring.ready({ signal })
      const vector = new Float32Array(1)
      await assert.rejects(
        node.ring.allReduce(vector, { round: 1, weight: -1, signal }),
        hasCode('BAD_ARGUMENT'),
      )
      await assert.rejects(
        node.ring.allReduce(vector, { round: 7, weight: 1, signal }),
        hasCode('OUT_OF_SYNC'),
      )
    } finally {
      await stopAll([node])
    }
  })

  it('ends the stream of a peer that sends garbage, counts it, and goes on', async () => {
    const node = await startNode(1, { minMembers: 1 })
    const stranger = await startBareNode(identityBelow(node.ring.peerId))
    try {
      const signal = deadline([node])
      for (const [garbage, code] of [
        [Buffer.from('00000005hello'), 'BAD_MESSAGE'],
        [Buffer.concat([Buffer.from([0, 0, 0, 2]), Buffer.from('{}')]), 'BAD_MESSAGE'],
        [Buffer.concat([Buffer.from([0, 0, 0, 2]), Buffer.from([0xff, 0xfe])]), 'BAD_MESSAGE'],
      ] as const) {
        const before = node.ring.status.counters.rejected[code] ?? 0
        const counted = new Promise<void>((resolve) => {
          const off = node.ring.on('error', () => {
            off()
            resolve()
          })
        })
        const addresses = node.ring.addresses.map((address) => multiaddr(address))
        const stream = await stranger.dialProtocol(addresses, CONTROL_PROTOCOL, { signal })
        stream.send(garbage)
        await counted
        assert.equal(node.ring.status.counters.rejected[code], before + 1)
      }
      await node.ring.ready({ signal })
      const result = await node.ring.allReduce(Float32Array.of(3), { round: 1, weight: 2, signal })
      assert.deepEqual([...result.mean], [3])
    } finally {
      await stranger.stop()
      await stopAll([node])
    }
  })
})
