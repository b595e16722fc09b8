/** What a node says while it waits for its ring, and that a short wait between rounds is not worth a word. */
import assert from 'node:assert/strict'
import { describe, it, mock } from 'node:test'
import type { RingStatus } from '@gym-node/ring'
import { WAITING_REFRESH_MS, WAITING_SHOWN_MS } from '../src/defaults.ts'
import { readiness } from '../src/observe/routes.ts'
import type { DaemonEvent, DaemonState } from '../src/status.ts'
import { sayWhileWaiting, waitingReason } from '../src/waiting.ts'
import { statusDocument } from './observe-fixtures.ts'

const member = (peerId: string, inView: boolean, alive: boolean): RingStatus['members'][number] => ({
  peerId,
  inView,
  alive,
  round: null,
})

describe('the reason of a wait', () => {
  it('names what is missing in each phase of the ring', () => {
    const two = [member('a', true, true), member('b', true, false), member('c', true, false)]
    assert.match(waitingReason('alone', [], 3), /no other node .* 3 are needed/)
    assert.match(
      waitingReason('forming', [member('b', false, true)], 3),
      /at least 3 members, 1 node is connected/,
    )
    assert.match(waitingReason('minority', two, 2), /cut off from the majority .* 1 of 3 members are here/)
    assert.match(waitingReason('syncing', two, 2), /fetches the state/)
  })
})

describe('a wait', () => {
  it('is said at once at the start, later only when it lasts, and again when its reason changes', async (t) => {
    mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
    t.after(() => mock.timers.reset())
    const said: DaemonEvent[] = []
    let phase: RingStatus['phase'] = 'forming'
    const parts = {
      status: () => ({ phase, members: [] }),
      minMembers: 2,
      emit: (event: DaemonEvent) => void said.push(event),
    }

    const first = Promise.withResolvers<string>()
    const waiting = sayWhileWaiting(first.promise, { ...parts, isFirst: true })
    assert.equal(said.length, 1)
    mock.timers.tick(WAITING_SHOWN_MS)
    mock.timers.tick(WAITING_REFRESH_MS)
    assert.equal(said.length, 1, 'the same reason is not said twice')
    phase = 'syncing'
    mock.timers.tick(WAITING_REFRESH_MS)
    assert.deepEqual(
      said.map((event) => event.type === 'state' && event.state),
      ['waiting_for_peers', 'syncing'],
    )
    first.resolve('view')
    assert.equal(await waiting, 'view')

    said.length = 0
    const short = Promise.withResolvers<string>()
    const between = sayWhileWaiting(short.promise, { ...parts, isFirst: false })
    mock.timers.tick(WAITING_SHOWN_MS - 1)
    short.resolve('view')
    await between
    mock.timers.tick(WAITING_SHOWN_MS + WAITING_REFRESH_MS)
    assert.deepEqual(said, [], 'a healthy ring does not flap between rounds')
  })
})

describe('readiness', () => {
  const code = (state: DaemonState, seconds: number | null): number =>
    readiness(statusDocument({ state, seconds_since_progress: seconds })).code

  it('is steady over a change of the view, and ends when nothing moves', () => {
    assert.equal(code('waiting_for_peers', 20), 200, 'a view change of a member that was training')
    assert.equal(code('waiting_for_peers', 61), 503)
    assert.equal(code('waiting_for_peers', null), 503, 'it has never trained')
    assert.equal(code('syncing', 20), 200)
    assert.equal(code('training', 600), 200, 'the step of a large model')
    assert.equal(code('training', 1801), 503)
    assert.equal(code('paused', 100_000), 200, 'paused on purpose is no fault')
    assert.equal(code('stopping', 0), 503)
    assert.match(
      readiness(statusDocument({ state: 'training', seconds_since_progress: 1801 })).text,
      /no progress for 1801 s/,
    )
  })
})
