/** Requests between peers, and observers. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { RingError, type RingErrorCode } from '../src/index.ts'
import { startNode, startRing, stopAll } from './rig.ts'

const PROTOCOL = '/test/echo/1'
const LIMITS = { maxRequestBytes: 3_000_000, maxConcurrent: 2, timeoutMs: 10_000 }
const OPTIONS = { maxResponseBytes: 6_000_000, timeoutMs: 10_000 }

function hasCode(code: RingErrorCode, text = ''): (error: unknown) => boolean {
  return (error) => error instanceof RingError && error.code === code && error.message.includes(text)
}

describe('requests', () => {
  it('carry megabytes both ways, streamed answers, refusals and limits; an observer asks but never joins', async () => {
    const nodes = await startRing(2)
    const [first] = nodes
    assert.ok(first)
    const observer = await startNode(7, {
      minMembers: 1,
      role: 'observer',
      bootstrap: [...first.ring.addresses],
    })
    try {
      await Promise.all(nodes.map(({ ring }) => ring.ready()))
      while (observer.ring.peers().length < 2)
        await new Promise((resolve) => observer.ring.on('peer', resolve))
      await first.ring.handle(
        PROTOCOL,
        async (request, { from }) => {
          assert.equal(from, observer.ring.peerId)
          if (request.byteLength === 0) throw new Error('empty requests are not answered')
          return (async function* () {
            yield request
            yield request
          })()
        },
        LIMITS,
      )
      const request = new Uint8Array(2_000_003).map((_, i) => i % 251)
      const answer = await observer.ring.request(first.ring.peerId, PROTOCOL, request, OPTIONS)
      assert.equal(Buffer.compare(answer, Buffer.concat([request, request])), 0)
      const ask = (bytes: Uint8Array, options = OPTIONS): Promise<Uint8Array> =>
        observer.ring.request(first.ring.peerId, PROTOCOL, bytes, options)
      await assert.rejects(ask(new Uint8Array(0)), hasCode('REFUSED', 'empty requests'))
      await assert.rejects(ask(request, { ...OPTIONS, maxResponseBytes: 1000 }), hasCode('BAD_FRAME', '1000'))
      await assert.rejects(ask(new Uint8Array(LIMITS.maxRequestBytes + 1)), RingError)
      assert.equal(observer.ring.view, null)
      assert.equal(first.ring.view?.members.length, 2)
      await assert.rejects(observer.ring.ready(), hasCode('BAD_ARGUMENT', 'observer'))
    } finally {
      await stopAll([observer, ...nodes])
    }
  })

  it('two peers that hold every slot cannot keep a third from its answer', async () => {
    const nodes = await startRing(4)
    const [server, one, two, honest] = nodes
    assert.ok(server && one && two && honest)
    try {
      await Promise.all(nodes.map(({ ring }) => ring.ready()))
      const holding = Promise.withResolvers<undefined>()
      let held = 0
      await server.ring.handle(
        PROTOCOL,
        async (request, { from, signal }) => {
          if (from === honest.ring.peerId) return request
          held += 1
          if (held === 4) holding.resolve(undefined)
          return new Promise<Uint8Array>((_, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
          })
        },
        { ...LIMITS, maxConcurrent: 4, timeoutMs: 60_000 },
      )
      const hold = [one, one, two, two].map(({ ring }) =>
        ring.request(server.ring.peerId, PROTOCOL, Uint8Array.of(0), { ...OPTIONS, timeoutMs: 60_000 }),
      )
      const ends = hold.map((held) => held.catch((error: unknown) => error))
      await holding.promise
      const answer = await honest.ring.request(server.ring.peerId, PROTOCOL, Uint8Array.of(7), OPTIONS)
      assert.deepEqual([...answer], [7])
      assert.ok((await Promise.race(ends)) instanceof RingError, 'one of them had to give way')
      await stopAll(nodes)
      await Promise.all(ends)
    } finally {
      await stopAll(nodes)
    }
  })
})
