/** Events become spans: what is under what, when it begins and ends, and how a round that fails is told. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { SpanBuilder, type SpanRecord } from '../src/observe/spans.ts'
import type { DaemonEvent } from '../src/status.ts'
import { everyEvent, roundStatus, stepStats } from './observe-fixtures.ts'

function take(builder: SpanBuilder, events: readonly [number, DaemonEvent][]): SpanRecord[] {
  return events.flatMap(([at, event]) => builder.take(event, at))
}

const state = (value: 'training' | 'reducing' | 'waiting_for_peers' | 'stopping'): DaemonEvent => ({
  type: 'state',
  state: value,
  reason: 'because',
})

describe('the spans of a round', () => {
  it('hold steps with their phases, delta, all-reduce and commit, in time order and inside the round', () => {
    const stats = stepStats(9) // 3.6 s: 2.1 rollout, 0.02 reward, 1.4 forward and backward, 0.05 optimizer
    const delta = everyEvent().find(({ type }) => type === 'delta')
    assert.ok(delta !== undefined)
    const [round, ...others] = take(new SpanBuilder(), [
      [1_000, state('training')],
      [5_000, { type: 'step', round: 3, stats }],
      [5_100, delta],
      [5_110, state('reducing')],
      [5_600, { type: 'round', round: { ...roundStatus(3), duration_ms: 400 } }],
    ])
    assert.deepEqual(others, [])
    assert.deepEqual([round?.name, round?.start, round?.end, round?.failure], ['round', 1_000, 5_600, null])
    assert.equal(round?.attributes['gym.round'], 3)
    assert.deepEqual(
      round.children.map(({ name, start, end }) => [name, Math.round(start), Math.round(end)]),
      [
        ['step', 1_400, 5_000],
        ['write delta', 5_000, 5_100],
        ['all-reduce', 5_110, 5_510],
        ['commit', 5_510, 5_600],
      ],
    )
    assert.deepEqual(
      round.children[0]?.children.map(({ name, start, end }) => [name, Math.round(start), Math.round(end)]),
      [
        ['rollout', 1_400, 3_500],
        ['reward', 3_500, 3_520],
        ['forward and backward', 3_520, 4_920],
        ['optimizer', 4_920, 4_970],
      ],
    )
  })

  it('say why it was not committed, with the errors that came before', () => {
    const [round] = take(new SpanBuilder(), [
      [0, state('training')],
      [4_000, { type: 'step', round: 3, stats: stepStats(9) }],
      [4_100, state('reducing')],
      [4_200, { type: 'error', code: 'PEER_LOST', message: 'gone' }],
      [4_300, state('stopping')],
    ])
    assert.equal(round?.failure, 'because')
    assert.deepEqual(
      round.notes.map(({ name, at }) => [name, at]),
      [['PEER_LOST', 4_200]],
    )
  })
})

describe('a change of the view', () => {
  it('is a span from the loss or the wait to the new view', () => {
    const builder = new SpanBuilder()
    const views = take(builder, [
      [100, state('waiting_for_peers')],
      [700, { type: 'view', epoch: 1, members: ['a', 'b'] }],
      [900, { type: 'error', code: 'PEER_LOST', message: 'gone' }],
      [1_400, { type: 'view', epoch: 2, members: ['a'] }],
    ])
    assert.deepEqual(
      views.map(({ name, start, end, attributes }) => [name, start, end, attributes['gym.members']]),
      [
        ['view change', 100, 700, 2],
        ['view change', 900, 1_400, 1],
      ],
    )
  })
})
