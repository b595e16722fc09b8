/** Sealed links over both carriers: one suite for the carriers, and what a link refuses. */
import net from 'node:net'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { frameBytes } from '@gym-node/wire'
import { DEFAULT_LIMITS, RingError } from '../src/index.ts'
import { FrameSlots, slotsBytes } from '../src/kernels/frame-slots.ts'
import { answerLink, initiateLink } from '../src/link/handshake.ts'
import { directHost } from '../src/link/link-service.ts'
import { SealedLink } from '../src/link/sealed-link.ts'
import type { Carrier } from '../src/net/carrier.ts'
import { SocketCarrier } from '../src/net/socket-carrier.ts'
import { StreamCarrier } from '../src/net/stream-carrier.ts'
import { MemoryCarrier } from './fuzz/memory-carrier.ts'
import { startBareNode } from './net-rig.ts'
import { identityOf } from './rig.ts'

interface Pair {
  readonly dialled: Carrier
  readonly accepted: Carrier
  readonly end: () => Promise<void>
}

/** A socket pair, with whatever the test wants to do to the bytes on the way to the accepting end. */
async function socketPair(tamper: (bytes: Buffer) => Buffer = (bytes) => bytes): Promise<Pair> {
  const server = net.createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy = net.createServer((client) => {
    const upstream = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
    client.on('data', (bytes) => upstream.write(tamper(bytes)))
    upstream.on('data', (bytes) => client.write(bytes))
    for (const [a, b] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      a.on('close', () => b.destroy())
      a.on('error', () => b.destroy())
    }
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const arrival = once(server, 'connection') as Promise<[net.Socket]>
  const dialled = await SocketCarrier.dial('127.0.0.1', (proxy.address() as net.AddressInfo).port, 5000)
  const [socket] = await arrival
  const end = async (): Promise<void> => {
    dialled.abort(new RingError('STOPPED', 'test is over'))
    socket.destroy()
    server.close()
    proxy.close()
  }
  return { dialled, accepted: SocketCarrier.accepted(socket), end }
}

async function streamPair(): Promise<Pair> {
  const [a, b] = await Promise.all([startBareNode(identityOf(1)), startBareNode(identityOf(2))])
  const arrival = Promise.withResolvers<Carrier>()
  await b.handle('/test/1', (stream) => arrival.resolve(new StreamCarrier(stream)))
  const dialled = new StreamCarrier(await a.dialProtocol(b.getMultiaddrs(), '/test/1'))
  const end = async (): Promise<void> => {
    await Promise.all([a.stop(), b.stop()])
  }
  return { dialled, accepted: await arrival.promise, end }
}

async function sealed({ dialled, accepted }: Pair): Promise<[SealedLink, SealedLink]> {
  const common = { protocol: '/test/1', limits: DEFAULT_LIMITS, timeoutMs: 5000 }
  const preface = { purpose: 'round', ringId: 'ab', epoch: 3 } as const
  const [one, two] = [identityOf(1), identityOf(2)]
  const initiating = initiateLink({ ...common, carrier: dialled, identity: one, peer: two.peerId }, preface)
  const answer = { ...common, carrier: accepted, identity: two, peer: one.peerId }
  const answering = answerLink(answer, async (asked) => assert.deepEqual(asked, preface))
  const [initiator, { link }] = await Promise.all([initiating, answering])
  return [initiator, link]
}

const ended = (link: SealedLink): Promise<RingError> => new Promise((resolve) => link.onEnd(resolve))

for (const [name, makePair] of [
  ['socket', () => socketPair()],
  ['stream', streamPair],
] as const) {
  describe(`a link over a ${name}`, () => {
    it('delivers megabytes in order under back-pressure, both ways', async () => {
      const pair = await makePair()
      try {
        const links = await sealed(pair)
        await Promise.all(
          links.map(async (link, i) => {
            const other = links[1 - i]
            assert.ok(other)
            let next = 0
            const done = new Promise<void>((resolve) => {
              other.onFrame((header, payload) => {
                assert.equal(header.chunk, next)
                assert.equal(payload[payload.length - 1], next % 256)
                next += 1
                if (next === 40) resolve()
              })
            })
            for (let chunk = 0; chunk < 40; chunk++) {
              const payload = new Uint8Array(100_000 + chunk).fill(chunk)
              if (!link.send({ kind: 2, move: 0, round: 1, chunk }, payload)) await link.drained()
            }
            await done
          }),
        )
      } finally {
        await pair.end()
      }
    })

    it('tells the other end when it is aborted', async () => {
      const pair = await makePair()
      try {
        const [a, b] = await sealed(pair)
        a.abort(new RingError('STOPPED', 'enough'))
        assert.equal((await ended(b)).code, 'PEER_LOST')
        assert.equal((await ended(a)).code, 'STOPPED')
      } finally {
        await pair.end()
      }
    })
  })
}

it('direct sockets stay on loopback when nothing else was given, of either family', () => {
  const tcp = (...hosts: string[]): string => directHost(hosts.map((host) => `/${host}/tcp/4160`))
  assert.equal(tcp('ip4/127.0.0.1'), '127.0.0.1')
  assert.equal(tcp('ip6/::1'), '::1')
  assert.equal(tcp('ip4/127.0.0.1', 'ip6/::1'), '127.0.0.1')
  assert.equal(tcp('ip6/::1', 'ip4/192.0.2.1'), '::')
  assert.equal(tcp('ip6/::11'), '::')
  assert.equal(tcp('ip4/0.0.0.0'), '0.0.0.0')
})

describe('a sealed link', () => {
  it('frees the memory of a frame sealed in place once, whether it is written before or after the end, or never', () => {
    const key = { key: new Uint8Array(32).fill(1), iv: new Uint8Array(12) }
    const header = { kind: 2, move: 0, round: 1, chunk: 0 }
    const carrier = new MemoryCarrier('direct')
    const link = new SealedLink(carrier, { send: key, receive: key }, 'peer', DEFAULT_LIMITS)
    const freed = [0, 0, 0]
    const send = (i: number): boolean =>
      link.sendInPlace(header, new Uint8Array(frameBytes(100)), () => {
        freed[i] += 1
      })
    send(0)
    send(1)
    assert.deepEqual(freed, [0, 0, 0])
    carrier.write(1)
    assert.deepEqual(freed, [1, 0, 0])
    link.abort(new RingError('STOPPED', 'enough'))
    assert.deepEqual(freed, [1, 1, 0])
    carrier.write(1)
    assert.deepEqual(freed, [1, 1, 0], 'it may be lent to another link by now')
    assert.equal(send(2), false)
    assert.deepEqual(freed, [1, 1, 1], 'nobody will say that it was written')
  })

  it('has every frame sealed in place arrive whole at a reader that is slower, and all of the memory back', async () => {
    const pair = await socketPair()
    try {
      const [a, b] = await sealed(pair)
      const bytes = 500_000
      const memory = new Uint8Array(slotsBytes(bytes))
      const slots = new FrameSlots(memory, 0, bytes)
      const seen: number[] = []
      const whole = Promise.withResolvers<undefined>()
      b.onFrame(({ chunk }, payload) => {
        assert.ok(payload.every((byte) => byte === chunk))
        if (seen.push(chunk) === 60) whole.resolve(undefined)
      })
      const lent = new Set<number>()
      let most = 0
      // 15 MB in one turn: more than the kernel takes, so that the socket has several at a time.
      for (let chunk = 0; chunk < 60; chunk++) {
        slots.begin()
        const payload = memory.subarray(slots.at, slots.at + bytes).fill(chunk)
        const header = { kind: 2, move: 0, round: 1, chunk }
        const frame = slots.lend(payload)
        if (frame === null) a.send(header, payload)
        else {
          lent.add(chunk)
          a.sendInPlace(header, frame.frame, () => {
            frame.release()
            lent.delete(chunk)
          })
        }
        most = Math.max(most, lent.size)
        if (chunk % 30 === 29) await new Promise(setImmediate)
      }
      await whole.promise
      assert.deepEqual(
        seen,
        seen.map((_, i) => i),
      )
      assert.equal(most, 2)
      await a.drained()
      while (lent.size > 0) await new Promise(setImmediate)
    } finally {
      await pair.end()
    }
  })

  it('ends with BAD_FRAME on one flipped bit, and passes nothing of that frame on', async () => {
    let flip = false
    const pair = await socketPair((bytes) => {
      if (!flip || bytes.length < 100) return bytes
      const changed = Buffer.from(bytes)
      changed[90] = (changed[90] ?? 0) ^ 1
      return changed
    })
    try {
      const [a, b] = await sealed(pair)
      let frames = 0
      b.onFrame(() => {
        frames += 1
      })
      flip = true
      a.send({ kind: 2, move: 0, round: 1, chunk: 0 }, new Uint8Array(1000))
      assert.equal((await ended(b)).code, 'BAD_FRAME')
      assert.equal(frames, 0)
    } finally {
      await pair.end()
    }
  })

  it('is not opened for a peer that proves another identity than its connection', async () => {
    const pair = await socketPair()
    try {
      const common = { protocol: '/test/1', limits: DEFAULT_LIMITS, timeoutMs: 5000 }
      const preface = { purpose: 'round', ringId: 'ab', epoch: 3 } as const
      const [one, two, three] = [identityOf(1), identityOf(2), identityOf(3)]
      const initiating = initiateLink(
        { ...common, carrier: pair.dialled, identity: three, peer: two.peerId },
        preface,
      )
      const answer = { ...common, carrier: pair.accepted, identity: two, peer: one.peerId }
      const [first, second] = await Promise.allSettled([
        initiating,
        answerLink(answer, async () => undefined),
      ])
      assert.equal(first.status, 'rejected')
      assert.ok(second.status === 'rejected' && second.reason instanceof RingError)
      assert.equal(second.reason.code, 'BAD_HANDSHAKE')
    } finally {
      await pair.end()
    }
  })
})
