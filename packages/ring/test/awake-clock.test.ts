/** A process that stood still does not blame the others for the silence. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { AwakeClock } from '../src/awake-clock.ts'
import { until } from './net-rig.ts'
import { deadline, startRing, stopAll } from './rig.ts'

/** Blocks this thread, and with it every node of the test, as SIGSTOP or a sleeping machine does. */
function standStill(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

describe('the time of a node', () => {
  it('goes on as it does, less what was slept through', () => {
    let time = 1000
    const clock = new AwakeClock(100, () => time)
    const seen = [1050, 1150, 5150, 5160, 5260, 9000].map((at) => {
      time = at
      return clock.now()
    })
    // 4,000 ms at once count as 100, and so do 3,740.
    assert.deepEqual(seen, [1050, 1150, 1250, 1260, 1360, 1460])
  })

  it('keeps a ring together whose nodes all stood still for longer than the peer timeout', async () => {
    const nodes = await startRing(3, { peerTimeoutMs: 500 })
    try {
      const signal = deadline(nodes)
      await Promise.all(nodes.map(({ ring }) => ring.ready({ signal })))
      const phases = new Set<string>()
      for (let times = 0; times < 3; times++) {
        standStill(1200)
        const heard = nodes.map(({ ring }) => ring.status.counters.bytesReceived)
        const note = (): boolean => {
          for (const { ring } of nodes) phases.add(ring.status.phase)
          return nodes.every(({ ring }, n) => ring.status.counters.bytesReceived > (heard[n] ?? 0) + 2000)
        }
        await until(note, signal)
      }
      assert.deepEqual([...phases], ['member'])
      assert.deepEqual(
        nodes.map(({ ring }) => ring.view?.epoch),
        [1, 1, 1],
      )
    } finally {
      await stopAll(nodes)
    }
  })
})
