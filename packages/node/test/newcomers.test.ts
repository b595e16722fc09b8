/** How long the next round is held back for somebody at the door: hand-made rings on a clock that the test turns. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Ring, RingStatus, View } from '@gym-node/ring'
import { DOOR_AGAIN_MS, DOOR_WAIT_MS, LINGER_POLL_MS } from '../src/defaults.ts'
import { Newcomers, type DoorClock } from '../src/newcomers.ts'

type Peer = RingStatus['members'][number]
const peer = (peerId: string, inView: boolean, alive = true): Peer => ({ peerId, inView, alive, round: 3 })

/** What `letIn` sees of a ring: `members` are in its view, the peers as given. */
function ringOf(
  peers: readonly Peer[],
  members: readonly string[] = ['me', 'other'],
): Pick<Ring, 'status' | 'view'> {
  const view: View = { ringId: 'ab', epoch: 1, members }
  return { view, status: { members: peers } as unknown as RingStatus }
}

/** Time goes on only as somebody waits; `onPause` may change the world meanwhile. */
class Clock implements DoorClock {
  ms = 0
  onPause: () => void = () => undefined

  now(): number {
    return this.ms
  }

  async pause(ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    this.ms += ms
    this.onPause()
    signal.throwIfAborted()
  }
}

/** How long one hold took. */
async function heldFor(
  newcomers: Newcomers,
  clock: Clock,
  ring: Pick<Ring, 'status' | 'view'>,
  signal = new AbortController().signal,
): Promise<number> {
  const from = clock.ms
  await newcomers.letIn(ring, signal)
  return clock.ms - from
}

describe('the hold for newcomers', () => {
  it('takes no time when everybody is in, gone, or just let in', async () => {
    const clock = new Clock()
    const newcomers = new Newcomers(clock)
    assert.equal(await heldFor(newcomers, clock, ringOf([peer('other', true)])), 0)
    assert.equal(await heldFor(newcomers, clock, ringOf([peer('dead', false, false)])), 0)
    // The view has it already, the status of a moment ago does not.
    assert.equal(await heldFor(newcomers, clock, ringOf([peer('new', false)], ['me', 'new'])), 0)
  })

  it('ends as soon as the newcomer is in', async () => {
    const clock = new Clock()
    const peers = [peer('new', false)]
    clock.onPause = () => {
      if (clock.ms >= 4 * LINGER_POLL_MS) peers[0] = peer('new', true)
    }
    assert.equal(await heldFor(new Newcomers(clock), clock, ringOf(peers)), 4 * LINGER_POLL_MS)
  })

  it('ends after its moment when the newcomer stays outside, and is not repeated for it within a minute', async () => {
    const clock = new Clock()
    const newcomers = new Newcomers(clock)
    const ring = ringOf([peer('stuck', false)])
    const first = await heldFor(newcomers, clock, ring)
    assert.ok(first > DOOR_WAIT_MS && first <= DOOR_WAIT_MS + LINGER_POLL_MS, `${first} ms`)
    assert.equal(await heldFor(newcomers, clock, ring), 0)
    clock.ms = DOOR_AGAIN_MS
    assert.equal(await heldFor(newcomers, clock, ring), 0)
    clock.ms = DOOR_AGAIN_MS + 1
    assert.ok((await heldFor(newcomers, clock, ring)) > DOOR_WAIT_MS)
  })

  it('waits for another newcomer although one that cannot enter has had its moment', async () => {
    const clock = new Clock()
    const newcomers = new Newcomers(clock)
    const peers = [peer('stuck', false)]
    await heldFor(newcomers, clock, ringOf(peers))
    peers.push(peer('new', false))
    const from = clock.ms
    clock.onPause = () => {
      if (clock.ms >= from + 2 * LINGER_POLL_MS) peers[1] = peer('new', true)
    }
    assert.equal(await heldFor(newcomers, clock, ringOf(peers)), 2 * LINGER_POLL_MS)
  })

  it('ends with the signal’s reason', async () => {
    const clock = new Clock()
    const stop = new AbortController()
    clock.onPause = () => stop.abort(new Error('stopping'))
    await assert.rejects(heldFor(new Newcomers(clock), clock, ringOf([peer('new', false)]), stop.signal), {
      message: 'stopping',
    })
  })
})
