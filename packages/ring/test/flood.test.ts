/** Ten strangers that throw garbage at everything that listens, while a ring works. */
import { once } from 'node:events'
import net from 'node:net'
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { multiaddr } from '@multiformats/multiaddr'
import { CONTROL_PROTOCOL, LINK_PROTOCOL, STATE_PROTOCOL } from '../src/defaults.ts'
import { DirectListener } from '../src/net/direct-listener.ts'
import { frameMessage } from '../src/net/messages.ts'
import { startBareNode, until } from './net-rig.ts'
import { deadline, identityOf, startNode, startRing, stopAll } from './rig.ts'
import { Random } from './sim/random.ts'

function garbage(random: Random): Uint8Array {
  return Uint8Array.from({ length: 1 + random.below(20_000) }, () => random.below(256))
}

it('a flood of garbage from ten peers does not stop a round', async () => {
  const nodes = await startRing(2)
  const signal = deadline(nodes)
  const strangers = await Promise.all(
    Array.from({ length: 10 }, (_, i) => startBareNode(identityOf(100 + i))),
  )
  const random = new Random(31)
  const over = new AbortController()
  let thrown = 0
  try {
    await Promise.all(nodes.map(({ ring }) => ring.ready({ signal })))
    const floods = strangers.map(async (stranger, i) => {
      const at = nodes[i % 2].ring.addresses.map((address) => multiaddr(address))
      while (!over.signal.aborted) {
        const protocol = [CONTROL_PROTOCOL, LINK_PROTOCOL, STATE_PROTOCOL][random.below(3)]
        try {
          const stream = await stranger.dialProtocol(at, protocol, { signal: over.signal })
          stream.send(garbage(random))
          thrown += 1
        } catch {
          // Refused, which is what should happen; it tries again.
          await new Promise(setImmediate)
        }
      }
    })
    const beforeFlood = thrown
    for (let round = 1; round <= 5; round++) {
      const names = await Promise.all(
        nodes.map(async ({ ring, state }) => {
          await ring.ready({ signal })
          const vector = Float32Array.from({ length: 50_000 }, (_, k) => k + round)
          const result = await ring.allReduce(vector, { round, weight: 1, signal })
          state.apply(round, result.hash)
          assert.deepEqual(result.mean, vector)
          return Buffer.from(result.hash).toString('hex')
        }),
      )
      assert.equal(names[0], names[1])
    }
    // The strangers really got through to the protocols, and were counted.
    const seen = new Promise<void>((resolve) => {
      const check = (): void => {
        const refusals = nodes.map(({ ring }) => Object.values(ring.status.counters.rejected))
        if (thrown > beforeFlood && refusals.flat().reduce((sum, count) => sum + count, 0) >= 10) resolve()
        else if (signal.aborted) resolve()
        else setImmediate(check)
      }
      check()
    })
    await seen
    signal.throwIfAborted()
    over.abort()
    await Promise.all(floods)
  } finally {
    over.abort()
    await Promise.all(strangers.map(async (stranger) => stranger.stop()))
    await stopAll(nodes)
  }
})

it('what polite strangers say never makes honest peers refuse each other', async () => {
  // As much as one peer may say at once, and as large, in small.
  const limits = { controlBurst: 100, controlMessagesPerSecond: 50, controlMessageBytes: 16 * 1024 }
  const nodes = await startRing(2, { limits })
  const signal = deadline(nodes)
  const blamed: string[] = []
  const honest = new Set<string | undefined>()
  const watch = ({ ring }: (typeof nodes)[number]): void => {
    honest.add(ring.peerId)
    ring.on('error', ({ code, peer }) => {
      if (honest.has(peer)) blamed.push(code)
    })
  }
  nodes.forEach(watch)
  const target = nodes[0].ring
  // Of two peers the one with the lower id opens the stream.
  const lower = Array.from({ length: 40 }, (_, i) => identityOf(100 + i)).filter(
    (i) => i.peerId < target.peerId,
  )
  const strangers = await Promise.all(lower.slice(0, 4).map((identity) => startBareNode(identity)))
  assert.equal(strangers.length, 4)
  const longAddress = (i: number): string => `/dns4/${`${'a'.repeat(60)}.`.repeat(6)}x${i}/tcp/1`
  try {
    await Promise.all(nodes.map(({ ring }) => ring.ready({ signal })))
    for (const stranger of strangers) {
      const peer = stranger.peerId.toString()
      const stream = await stranger.dialProtocol(
        target.addresses.map((address) => multiaddr(address)),
        CONTROL_PROTOCOL,
      )
      const say = (message: object): void => {
        for (const bytes of frameMessage(new TextEncoder().encode(JSON.stringify(message))))
          stream.send(bytes)
      }
      const addresses = Array.from({ length: 16 }, (_, i) => longAddress(i))
      say({ t: 'hello', version: 1, job: 'test', boot: 'x', addresses, peers: [] })
      for (let i = 1; i < 95; i++) {
        say({ t: 'peers', peers: [{ peer, addresses: [...addresses.slice(1), `/ip4/192.0.2.1/tcp/${i}`] }] })
      }
    }
    await until(() => strangers.every((s) => target.peers().includes(s.peerId.toString())), signal)
    const newcomer = await startNode(7, { minMembers: 2, bootstrap: [...target.addresses], limits })
    nodes.push(newcomer)
    watch(newcomer)
    await newcomer.ring.ready({ signal })
    assert.deepEqual(blamed, [])
  } finally {
    await Promise.all(strangers.map(async (stranger) => stranger.stop()))
    await stopAll(nodes)
  }
})

describe('the listener of direct sockets', () => {
  it('closes a socket that names no open offer, and one that names an offer twice', async () => {
    const listener = new DirectListener()
    await listener.start('127.0.0.1')
    try {
      const { offer, arrivals } = listener.offer(1)
      const dial = async (head: Uint8Array): Promise<net.Socket> => {
        const socket = net.connect(offer.port, '127.0.0.1')
        await once(socket, 'connect')
        socket.write(head)
        return socket
      }
      const stranger = await dial(new Uint8Array(64).fill(7))
      await once(stranger, 'close')
      const neighbour = await dial(offer.tickets[0].id)
      const carrier = await arrivals[0]
      const late = await dial(offer.tickets[0].id)
      await once(late, 'close')
      neighbour.destroy()
      await new Promise((resolve) => carrier.onEnd(resolve))
    } finally {
      listener.stop()
    }
  })

  it('takes a neighbour in although somebody holds as many sockets open as it has places', async () => {
    const listener = new DirectListener()
    await listener.start('127.0.0.1')
    const idle: net.Socket[] = []
    try {
      const { offer, arrivals } = listener.offer(1)
      for (let i = 0; i < 64; i++) {
        const socket = net.connect({ port: offer.port, host: '127.0.0.1', localAddress: '127.0.0.2' })
        socket.on('error', () => undefined)
        idle.push(socket)
        await once(socket, 'connect')
      }
      const neighbour = net.connect(offer.port, '127.0.0.1')
      neighbour.write(offer.tickets[0].id)
      const carrier = await Promise.race([arrivals[0], once(neighbour, 'close')])
      assert.ok('abort' in carrier, 'the neighbour was closed')
      neighbour.destroy()
      await new Promise((resolve) => carrier.onEnd(resolve))
    } finally {
      for (const socket of idle) socket.destroy()
      listener.stop()
    }
  })

  it('holds no more than 64 sockets that have not named an offer', async () => {
    const listener = new DirectListener()
    await listener.start('127.0.0.1')
    const sockets: net.Socket[] = []
    try {
      const { offer } = listener.offer(1)
      const closed = new Promise<void>((resolve) => {
        for (let i = 0; i < 65; i++) {
          const socket = net.connect(offer.port, '127.0.0.1')
          socket.on('error', () => undefined)
          socket.once('close', () => resolve())
          sockets.push(socket)
        }
      })
      await closed
      assert.ok(sockets.filter((socket) => !socket.destroyed).length >= 64 - 1)
    } finally {
      for (const socket of sockets) socket.destroy()
      listener.stop()
    }
  })
})
