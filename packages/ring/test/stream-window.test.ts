/** Room that a stream's receiver gives back: seldom, and always in time. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import type { Stream } from '@libp2p/interface'
import { StreamCarrier } from '../src/net/stream-carrier.ts'
import { startBareNode } from './net-rig.ts'
import { identityOf } from './rig.ts'

/** Counts the frames that a stream sends by yamux's own hook for them. */
function countFrames(stream: Stream): () => number {
  const sending = stream as unknown as { sendFrame: (...frame: unknown[]) => unknown }
  const send = sending.sendFrame.bind(stream)
  let frames = 0
  sending.sendFrame = (...frame) => {
    frames += 1
    return send(...frame)
  }
  return () => frames
}

describe('the window of a stream', () => {
  it('is not updated for every message, and never runs out', async () => {
    const [a, b] = await Promise.all([startBareNode(identityOf(1)), startBareNode(identityOf(2))])
    try {
      const arrival = Promise.withResolvers<Stream>()
      await b.handle('/test/window', arrival.resolve)
      const out = await a.dialProtocol(b.getMultiaddrs(), '/test/window')
      const inward = await arrival.promise
      const answers = countFrames(inward)
      const [from, to] = [new StreamCarrier(out), new StreamCarrier(inward)]
      let received = 0
      const total = 40 * 1000 + 40 * 300_000
      const whole = new Promise<void>((resolve, reject) => {
        to.onEnd(reject)
        to.receive((bytes) => {
          received += bytes.byteLength
          if (received === 40 * 1000) small.resolve(undefined)
          if (received === total) resolve()
        })
      })
      const small = Promise.withResolvers<undefined>()
      for (let i = 0; i < 40; i++) from.send([new Uint8Array(randomBytes(1000))])
      await small.promise
      assert.ok(answers() <= 1, `${answers()} frames in answer to 40 short messages`)
      // Many times the window, so that a sender without room would wait for ever.
      for (let i = 0; i < 40; i++) {
        if (!from.send([new Uint8Array(randomBytes(300_000))])) await from.drained()
      }
      await whole
      assert.equal(received, total)
    } finally {
      await Promise.all([a.stop(), b.stop()])
    }
  })
})
