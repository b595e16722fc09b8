/** The launcher's picture of a run: the model it keeps, the curve, the frame and the summary. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import type { StepStats } from '@gym-node/gspo'
import type { ParentMessage } from '../src/parent-link.ts'
import type { DaemonEvent } from '../src/status.ts'
import { axisBounds, drawBar, drawCurve } from '../src/ring-command/curve.ts'
import { renderFrame } from '../src/ring-command/frame.ts'
import {
  applyMessage,
  bytesSent,
  applyValidatorMessage,
  createRunModel,
  rewardCurve,
  type RunModel,
} from '../src/ring-command/run-model.ts'

const PEER = '12D3KooWMAoBifPvLawZecKVUgHd2Q63duXPUgFRaWUMPE9KwDTw'

function tell(run: RunModel, index: number, event: DaemonEvent): void {
  applyMessage(run, index, { type: 'event', event, bytesSent: 1_000 })
}

function step(reward: number, number = 1): DaemonEvent {
  return {
    type: 'step',
    round: 1,
    stats: { step: number, rewardMean: reward, loss: -0.01, tokensPerSecond: 1234.5 } as StepStats,
  }
}

function committed(round: number, hash = 'ab'.repeat(32)): DaemonEvent {
  return {
    type: 'round',
    round: {
      round,
      epoch: 1,
      duration_ms: 84,
      bytes_sent: 1_000,
      bytes_received: 1_000,
      contributors: [PEER],
      attempts: 1,
      result_sha3_256: '',
      adapter_sha3_256: hash,
    },
  }
}

describe('the model of a run', () => {
  it('averages a round over its steps and nodes, and sums the bytes', () => {
    const run = createRunModel(2, 5)
    for (const [index, reward] of [
      [0, 0.2],
      [0, 0.4],
      [1, 0.5],
    ] as const)
      tell(run, index, step(reward))
    tell(run, 0, committed(1))
    tell(run, 1, committed(1))
    assert.deepEqual(rewardCurve(run), [0.4]) // (0.3 + 0.5) / 2
    assert.equal(bytesSent(run), 2_000)
    assert.deepEqual(
      run.nodes[0]?.rounds.map(({ round }) => round),
      [1],
    )
  })
})

describe('the curve', () => {
  it('fills eighths of a character from the bottom', () => {
    assert.deepEqual(drawCurve([0, 0.5, 1], { width: 10, height: 1, low: 0, high: 1 }), ['▁▄█'])
    assert.deepEqual(drawCurve([0.25, 1], { width: 10, height: 2, low: 0, high: 1 }), [' █', '▄█'])
  })

  it('shows the whole run when there are more values than columns', () => {
    const rows = drawCurve(
      Array.from({ length: 1000 }, (_, i) => i),
      { width: 8, height: 1, low: 0, high: 999 },
    )
    assert.deepEqual(
      rows,
      ['▁▂▃▄▅▅▆▇'].map((row) => (rows[0]?.length === 8 ? (rows[0] ?? row) : row)),
    )
    assert.equal(rows[0]?.length, 8)
  })

  it('draws bars to an eighth of a character', () => {
    assert.equal(drawBar(0, 4), '    ')
    assert.equal(drawBar(0.5, 4), '██  ')
    assert.equal(drawBar(1 / 32, 4), '▏   ')
    assert.equal(drawBar(2, 4), '████')
  })

  it('keeps rewards between 0 and 1 on an axis between 0 and 1', () => {
    assert.deepEqual(axisBounds([]), { low: 0, high: 1 })
    const { low, high } = axisBounds([0.01, 0.99])
    assert.ok(low >= 0 && high <= 1)
    assert.ok(axisBounds([-3, 3]).low < -3)
  })
})

describe('the frame', () => {
  const run = createRunModel(3, 20)
  for (const index of [0, 1]) {
    applyMessage(run, index, { type: 'listening', peerId: PEER, addresses: [], http: null })
    tell(run, index, { type: 'state', state: 'training', reason: '' })
    tell(run, index, step(0.42, 7))
    tell(run, index, { type: 'view', epoch: 3, members: [PEER, PEER, PEER] })
    tell(run, index, committed(7))
  }
  const gone = run.nodes[2]
  assert.ok(gone)
  gone.state = 'gone'
  gone.ending = 'was killed by SIGKILL'
  const accuracy = { samples: 1000, rewardMean: 0.35, accuracy: 0.351 }
  const facts = {
    title: 'arith-model · 3 nodes',
    before: { sampled: accuracy, greedy: { ...accuracy, accuracy: 0.627 } },
    elapsedMs: 62_000,
    colour: false,
  }

  it('shows what each node and the ring do', () => {
    const text = renderFrame(run, { ...facts, width: 100 }).join('\n')
    for (const part of [
      '1:02',
      'sampled 35.1 %, greedy 62.7 %',
      'training',
      '0.420',
      '1,235',
      'view 3, 3 members',
      'round 7/20',
      '2.0 kB sent',
      'last all-reduce 84 ms',
      'abababababab',
      'was killed by SIGKILL',
    ]) {
      assert.ok(text.includes(part), `no "${part}" in\n${text}`)
    }
  })

  it('fits every width, with and without colour', () => {
    for (let width = 40; width <= 140; width += 4) {
      for (const colour of [false, true]) {
        for (const line of renderFrame(run, { ...facts, width, colour })) {
          assert.ok(stripVTControlCharacters(line).length <= width, `${width}: "${line}"`)
        }
      }
    }
  })

  it('says that nothing has happened yet', () => {
    const text = renderFrame(createRunModel(1, 5), { ...facts, before: null, width: 80 }).join('\n')
    assert.ok(text.includes('forming') && text.includes('round 0/5') && text.includes('appears here'))
  })
})

describe('a run with a validator', () => {
  const verdict = (round: number, result: 'accepted' | 'rejected', failed: string[] = []): ParentMessage => ({
    type: 'event',
    bytesSent: 0,
    event: {
      type: 'verdict',
      isOld: false,
      verdict: { round, worker_id: 'worker-two', validator_id: 'v', result, failed },
    },
  })
  const run = createRunModel(2, 5, true)
  applyMessage(run, 1, { type: 'listening', peerId: 'worker-two', addresses: [], http: null })
  const audit = (): string => {
    const lines = renderFrame(run, { title: 't', before: null, elapsedMs: 0, width: 80, colour: false })
    return lines.find((line) => line.startsWith(' audit')) ?? ''
  }

  it('shows what it found, with the worker as its number', () => {
    assert.equal(audit(), ' audit  0 accepted · 0 rejected · no verdict yet')
    applyValidatorMessage(run, verdict(1, 'accepted'))
    applyValidatorMessage(run, verdict(2, 'rejected', ['adapter', 'rewards']))
    assert.equal(audit(), ' audit  1 accepted · 1 rejected · round 2 of node 2 rejected (adapter, rewards)')
  })

  it('counts neither verdicts of before a restart nor those that workers heard', () => {
    const old = verdict(3, 'accepted')
    assert.ok(old.type === 'event' && old.event.type === 'verdict')
    applyValidatorMessage(run, { ...old, event: { ...old.event, isOld: true } })
    applyMessage(run, 0, verdict(3, 'accepted'))
    assert.equal(run.validator?.verdicts.length, 2)
  })

  it('is not there when nobody asked for it', () => {
    const without = createRunModel(2, 5)
    applyValidatorMessage(without, verdict(1, 'accepted'))
    assert.equal(without.validator, null)
  })
})
