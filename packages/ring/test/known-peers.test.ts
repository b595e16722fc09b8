/** What a node keeps of what others say about peers: bounded, and no obstacle to what it learns itself. */
import { once } from 'node:events'
import net from 'node:net'
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { DEFAULT_LIMITS } from '../src/defaults.ts'
import { HEARSAY_ADDRESSES, HEARSAY_DIALS } from '../src/net/defaults.ts'
import { DialTargets } from '../src/net/dial-targets.ts'
import { KnownPeers } from '../src/net/known-peers.ts'
import { NetCounters } from '../src/net/net-counters.ts'
import { startBareNode, until } from './net-rig.ts'
import { identityOf, loggerFor } from './rig.ts'

const [FIRST, SECOND, THIRD, FOURTH] = [0, 1, 2, 3].map((n) => identityOf(n).peerId)
const at = (port: number): string => `/ip4/192.0.2.1/tcp/${port}`
const ADDRESSES = [at(4160)]
const gone = (): boolean => false
const named = (peer: string, ...ports: number[]): string[] => ports.map((port) => `${at(port)}/p2p/${peer}`)

describe('the list of known peers', () => {
  it('when full keeps who was met and is here, and forgets hearsay for a peer that came itself', () => {
    const isHere = (peer: string): boolean => peer === FIRST || peer === THIRD
    const known = new KnownPeers({ ...DEFAULT_LIMITS, knownPeers: 2 }, new NetCounters(), isHere)
    assert.ok(known.learn({ peer: FIRST, addresses: ADDRESSES }, 'peer'))
    assert.ok(known.learn({ peer: SECOND, addresses: ADDRESSES }, 'peer'))
    known.noteMet(FIRST)
    assert.ok(!known.learn({ peer: THIRD, addresses: ADDRESSES }, 'peer'), 'more hearsay finds no room')
    assert.ok(known.learn({ peer: THIRD, addresses: ADDRESSES }, 'inbound'))
    assert.equal(known.addressesOf(FIRST).length, 1)
    assert.equal(known.addressesOf(SECOND).length, 0)
    assert.ok(!known.learn({ peer: FOURTH, addresses: ADDRESSES }, 'inbound'), 'nothing is left to forget')
  })

  it('when full of strangers that said hello and went, still takes in who comes', () => {
    const known = new KnownPeers({ ...DEFAULT_LIMITS, knownPeers: 1 }, new NetCounters(), gone)
    assert.ok(known.learn({ peer: FIRST, addresses: ADDRESSES }, 'inbound'))
    known.noteMet(FIRST)
    assert.ok(known.learn({ peer: SECOND, addresses: ADDRESSES }, 'inbound'))
    assert.deepEqual(known.addressesOf(SECOND), named(SECOND, 4160))
  })

  it('when full of names that were dialled in vain, takes another name', () => {
    for (const source of ['peer', 'dht', 'mdns'] as const) {
      const known = new KnownPeers({ ...DEFAULT_LIMITS, knownPeers: 1 }, new NetCounters(), gone)
      assert.ok(known.learn({ peer: FIRST, addresses: ADDRESSES }, source))
      assert.ok(!known.learn({ peer: SECOND, addresses: ADDRESSES }, source))
      known.dialListOf(FIRST, 0)
      assert.ok(known.learn({ peer: SECOND, addresses: ADDRESSES }, source))
    }
  })

  it('takes the word of nobody over that of the peer itself', () => {
    const known = new KnownPeers(DEFAULT_LIMITS, new NetCounters(), gone)
    known.learn({ peer: FIRST, addresses: [at(1)] }, 'inbound')
    assert.ok(!known.learn({ peer: FIRST, addresses: [at(2)] }, 'peer', SECOND))
    assert.ok(!known.learn({ peer: FIRST, addresses: [at(2)] }, 'dht'))
    assert.deepEqual(known.addressesOf(FIRST), named(FIRST, 1))
    assert.ok(known.learn({ peer: FIRST, addresses: [at(3)] }, 'inbound'), 'it may move')
    assert.deepEqual(known.addressesOf(FIRST), named(FIRST, 3))
  })

  it('keeps what each of several says of a peer, and dials them in turn: a lie takes no place of a truth', () => {
    const known = new KnownPeers(DEFAULT_LIMITS, new NetCounters(), gone)
    const lies = Array.from({ length: 20 }, (_, i) => at(100 + i))
    known.learn({ peer: FIRST, addresses: lies }, 'peer', SECOND)
    known.learn({ peer: FIRST, addresses: [at(1)] }, 'peer', THIRD)
    known.learn({ peer: FIRST, addresses: lies.toReversed() }, 'peer', SECOND)
    const lists = [0, 1].map((attempt) => known.dialListOf(FIRST, attempt))
    assert.deepEqual(
      lists.find((list) => list.length === 1),
      named(FIRST, 1),
    )
    assert.equal(lists.find((list) => list.length > 1)?.length, HEARSAY_ADDRESSES)
  })

  it('dials all addresses of a peer, then each by itself, and first the one that was reached', () => {
    const known = new KnownPeers(DEFAULT_LIMITS, new NetCounters(), gone)
    known.noteReached(FIRST, 'bootstrap', at(9))
    known.learn({ peer: FIRST, addresses: [at(1), at(2)] }, 'inbound')
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((attempt) => known.dialListOf(FIRST, attempt)),
      [[9, 1, 2], [9], [1], [2], [9, 1, 2]].map((ports) => named(FIRST, ...ports)),
    )
  })
})

/** A listener that takes every connection and says nothing. */
async function startSilent(): Promise<{ port: number; open: () => number; stop: () => void }> {
  const sockets = new Set<net.Socket>()
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  return {
    port,
    open: () => sockets.size,
    stop: () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

describe('dials', () => {
  it('reach a peer that exists although somebody has made up hundreds that do not answer', async () => {
    const silent = await startSilent()
    const node = await startBareNode(identityOf(1))
    const real = await startBareNode(identityOf(2))
    const targets = new DialTargets({
      node,
      counters: new NetCounters(),
      logger: loggerFor('dials'),
      isPrivate: false,
      onReached: () => undefined,
      isMember: () => false,
    })
    try {
      for (let i = 0; i < 300; i++) {
        const key = await generateKeyPairFromSeed(
          'Ed25519',
          new Uint8Array(32).fill(1).fill(i % 250, 1 + (i % 7)),
        )
        const peer = peerIdFromPrivateKey(key).toString()
        const addresses = [`/ip4/127.0.0.1/tcp/${silent.port}/p2p/${peer}`]
        targets.add(peer, () => addresses, { source: 'peer', peer, delayMs: 0 })
      }
      targets.dialDue()
      await until(() => silent.open() >= HEARSAY_DIALS, AbortSignal.timeout(10_000))
      const peer = real.peerId.toString()
      const addresses = real.getMultiaddrs().map((address) => address.toString())
      targets.add(peer, () => addresses, { source: 'inbound', peer, delayMs: 0 })
      targets.dialDue()
      await until(() => node.getConnections(real.peerId).length > 0, AbortSignal.timeout(10_000))
      assert.equal(silent.open(), HEARSAY_DIALS)
    } finally {
      silent.stop()
      await real.stop()
      await node.stop()
    }
  })
})
