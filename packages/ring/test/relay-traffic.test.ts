/** What a relay holds back, on streams and a clock of the test's own. */
import { describe, it, mock } from 'node:test'
import assert from 'node:assert/strict'
import type { Stream } from '@libp2p/interface'
import { RELAY_WAITING_BYTES, RelayTraffic } from '../src/reach/relay-traffic.ts'

/** The parts of a libp2p stream that count here: what arrives, what is sent, whether it is paused. */
class TestStream extends EventTarget {
  readStatus = 'readable'
  isPaused = false
  readonly sent: Uint8Array[] = []

  arrive(data: Uint8Array): void {
    this.dispatchEvent(Object.assign(new Event('message'), { data }))
  }

  send(data: Uint8Array): boolean {
    this.sent.push(data)
    return true
  }

  pause(): void {
    if (this.readStatus === 'closed') throw new Error('Cannot pause a stream that is closed')
    this.isPaused = true
  }

  resume(): void {
    if (this.readStatus === 'closed') throw new Error('Cannot resume a stream that is closed')
    this.isPaused = false
  }

  close(): void {
    this.readStatus = 'closed'
    this.dispatchEvent(new Event('close'))
  }
}

/** Two streams under one relay, and a clock. */
function rig(bytesPerSecond: number | null): {
  a: TestStream
  b: TestStream
  traffic: RelayTraffic
  pass: (ms: number) => void
} {
  let now = 0
  const traffic = new RelayTraffic(bytesPerSecond, () => now)
  const [a, b] = [new TestStream(), new TestStream()]
  for (const stream of [a, b]) {
    traffic.watch(stream as unknown as Stream)
  }
  const pass = (ms: number): void => {
    for (let k = 0; k < ms; k += 1) {
      now += 1
      mock.timers.tick(1)
    }
  }
  return { a, b, traffic, pass }
}

const piece = (bytes: number): Uint8Array => new Uint8Array(bytes)

describe('the traffic of a relay', () => {
  it('pauses the stream whose bytes do not leave, and only that one, until half of them have left', (t) => {
    mock.timers.enable({ apis: ['setTimeout', 'setImmediate'] })
    t.after(() => mock.timers.reset())
    const { a, b, traffic, pass } = rig(null)
    const pieces = Array.from({ length: 5 }, () => piece(RELAY_WAITING_BYTES / 4))
    for (const each of pieces) a.arrive(each)
    b.arrive(piece(1000))
    pass(5)
    assert.ok(a.isPaused && !b.isPaused)
    assert.equal(traffic.status.waitingBytes, 1.25 * RELAY_WAITING_BYTES + 1000)
    b.send(pieces[0])
    b.send(pieces[1])
    pass(5)
    assert.ok(a.isPaused, 'three quarters still wait')
    b.send(pieces[2])
    pass(5)
    assert.ok(!a.isPaused)
    assert.equal(traffic.status.pauses, 1)
    assert.deepEqual(b.sent, pieces.slice(0, 3), 'what is sent is what came')
    traffic.stop()
  })

  it('lets all streams together through at the rate, after a quarter of a second of it at once', (t) => {
    mock.timers.enable({ apis: ['setTimeout', 'setImmediate'] })
    t.after(() => mock.timers.reset())
    // 1,000 bytes a ms. Both ends send 1,000 bytes whenever they are not paused, for two seconds.
    const { a, b, traffic, pass } = rig(1_000_000)
    for (let ms = 0; ms < 2_000; ms += 1) {
      for (const [from, to] of [
        [a, b],
        [b, a],
      ] as const) {
        if (from.isPaused) continue
        const data = piece(1000)
        from.arrive(data)
        to.send(data)
      }
      pass(1)
    }
    const { bytes } = traffic.status
    assert.ok(bytes >= 2_000_000 && bytes <= 2_300_000, `${bytes} bytes in two seconds`)
    const [fromA, fromB] = [b.sent.length, a.sent.length]
    assert.ok(
      Math.abs(fromA - fromB) < 0.2 * (fromA + fromB),
      `${fromA} and ${fromB} pieces: both get their share`,
    )
    traffic.stop()
  })

  it('forgets a stream that has ended', (t) => {
    mock.timers.enable({ apis: ['setTimeout', 'setImmediate'] })
    t.after(() => mock.timers.reset())
    const { a, traffic, pass } = rig(null)
    a.arrive(piece(2 * RELAY_WAITING_BYTES))
    a.close()
    pass(5)
    assert.ok(!a.isPaused)
    assert.deepEqual(traffic.status, {
      bytes: 2 * RELAY_WAITING_BYTES,
      waitingBytes: 0,
      streams: 1,
      pauses: 1,
    })
    traffic.stop()
  })
})
