/** Schedules and clipping; expected values by hand and by torch's documented formulas. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { clipGradient, gradientNorm } from '../src/optim/clip.ts'
import { learningRateAt } from '../src/optim/schedule.ts'
import type { LrSchedulerType } from '../src/optim/schedule.ts'

const rates = (type: LrSchedulerType, updates: number[]): number[] =>
  updates.map((update) =>
    learningRateAt(update, { type, learningRate: 1, warmupUpdates: 10, totalUpdates: 110 }),
  )

describe('learningRateAt', () => {
  it('constant has no warm-up', () => assert.deepEqual(rates('constant', [0, 5, 200]), [1, 1, 1]))
  it('constant_with_warmup climbs and stays', () =>
    assert.deepEqual(rates('constant_with_warmup', [0, 5, 10, 200]), [0, 0.5, 1, 1]))
  it('linear falls to zero at the end', () =>
    assert.deepEqual(rates('linear', [5, 10, 60, 110, 200]), [0.5, 1, 0.5, 0, 0]))
  it('cosine is half way at half time', () => {
    const [start = 0, half = 0, end = 1] = rates('cosine', [10, 60, 110])
    assert.equal(start, 1)
    assert.ok(Math.abs(half - 0.5) < 1e-15)
    assert.equal(end, 0)
  })
})

describe('clipGradient', () => {
  it('returns the norm and leaves a short gradient alone', () => {
    const gradient = Float32Array.from([3, 4])
    assert.equal(clipGradient(gradient, 6), 5)
    assert.deepEqual([...gradient], [3, 4])
  })
  it('scales a long one to the limit, as torch does: max / (norm + 1e-6)', () => {
    const gradient = Float32Array.from([3, 4])
    assert.equal(clipGradient(gradient, 1), 5)
    const scale = 1 / (5 + 1e-6)
    assert.deepEqual(gradient, Float32Array.from([3 * scale, 4 * scale]))
  })
  it('does nothing at 0 and sums in double precision', () => {
    assert.equal(clipGradient(Float32Array.from([30, 40]), 0), 50)
    assert.equal(gradientNorm(new Float32Array(4_000_000).fill(1)), 2000)
  })
})
