/** Members that die, stop, leave and come late, as real processes. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { ProcessRing } from './process-rig.ts'

const SETTINGS = { length: 300_000, thinkMs: 20, ring: { minMembers: 3, peerTimeoutMs: 2000 } }

/** Resolves when `node` is inside the all-reduce after next: the vector is on its way. */
function insideRound(ring: ProcessRing, node: number): Promise<void> {
  return new Promise((resolve) => {
    let seen = 0
    ring.onReducing = (n) => {
      if (n !== node || ++seen < 2) return
      ring.onReducing = null
      resolve()
    }
  })
}

describe('a ring of processes', () => {
  it('goes on without a member killed inside a round, and takes it back with the state', async () => {
    const ring = new ProcessRing(SETTINGS)
    try {
      await ring.start(0)
      await Promise.all([ring.start(1), ring.start(2)])
      await ring.untilRoundsGoOn([0, 1, 2])
      await insideRound(ring, 2)
      await ring.kill(2)
      await ring.untilRoundsGoOn([0, 1])
      await ring.start(2)
      await ring.untilRoundsGoOn([0, 1, 2])
      ring.check()
      assert.ok(
        ring.adopted.some((entry) => entry.node === 2),
        'the restarted node fetched the state',
      )
    } finally {
      await ring.close()
    }
  })

  it('lets a late joiner in at a round boundary and a leaver out at once', async () => {
    const ring = new ProcessRing(SETTINGS)
    try {
      await ring.start(0)
      await Promise.all([ring.start(1), ring.start(2)])
      await ring.untilRoundsGoOn([0, 1, 2])
      await ring.start(3)
      await ring.untilRoundsGoOn([0, 1, 2, 3])
      await ring.leave(1)
      await ring.untilRoundsGoOn([0, 2, 3])
      ring.check()
    } finally {
      await ring.close()
    }
  })

  it('suspects a stopped member after the timeout, and takes it back when it wakes', async () => {
    const ring = new ProcessRing(SETTINGS)
    try {
      await ring.start(0)
      await Promise.all([ring.start(1), ring.start(2)])
      await ring.untilRoundsGoOn([0, 1, 2])
      ring.signal(0, 'SIGSTOP')
      await ring.untilRoundsGoOn([1, 2])
      ring.signal(0, 'SIGCONT')
      await ring.untilRoundsGoOn([0, 1, 2])
      ring.check()
    } finally {
      await ring.close()
    }
  })

  it('re-forms from disk when all members were killed at once', async () => {
    const ring = new ProcessRing(SETTINGS)
    try {
      await ring.start(0)
      await Promise.all([ring.start(1), ring.start(2)])
      await ring.untilRoundsGoOn([0, 1, 2])
      await insideRound(ring, 1)
      await Promise.all([ring.kill(0), ring.kill(1), ring.kill(2)])
      await ring.start(1)
      await Promise.all([ring.start(0), ring.start(2)])
      await ring.untilRoundsGoOn([0, 1, 2])
      ring.check()
    } finally {
      await ring.close()
    }
  })
})
