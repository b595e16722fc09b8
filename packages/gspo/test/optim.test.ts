/** AdamW, schedules and clipping; expected values by torch 2.13, by hand and by torch's documented formulas. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { adamwInit, adamwUpdate } from '../src/optim/adamw.ts'
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

describe('adamwUpdate', () => {
  const CONFIG = { learningRate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.05 }

  it('decays weights apart from the gradient, as torch.optim.AdamW does over three steps', () => {
    // torch.optim.AdamW([1, -2, 0.5, 0], lr 0.1, betas (0.9, 0.99), eps 1e-8, weight_decay 0.05) on the same gradients.
    const steps = [
      [
        [0.1, -0.2, 0.3, 0],
        [0.8949999809265137, -1.8899999856948853, 0.39750000834465027, 0],
      ],
      [
        [0.2, 0.1, -0.3, 0.5],
        [0.7941374778747559, -1.8538800477981567, 0.400775671005249, -0.07424598187208176],
      ],
      [
        [-0.1, 0.4, 0, 0.25],
        [0.7481575012207031, -1.8902257680892944, 0.4028494954109192, -0.153827503323555],
      ],
    ] as const
    let weights: Float32Array = Float32Array.of(1, -2, 0.5, 0)
    let state = adamwInit(4, 1)
    for (const [gradient, expected] of steps) {
      const next = adamwUpdate(
        weights,
        Float32Array.from(gradient),
        state,
        [{ offset: 0, length: 4 }],
        CONFIG,
      )
      weights = next.weights
      state = next.state
      for (const [index, value] of expected.entries())
        assert.ok(Math.abs((weights[index] ?? NaN) - value) <= 2e-7, `${weights[index]}, torch ${value}`)
    }
  })

  it('leaves a parameter without gradient alone, its decay, moments and count included', () => {
    const parameters = [
      { offset: 0, length: 1 },
      { offset: 1, length: 1 },
    ]
    const { weights, state } = adamwUpdate(
      Float32Array.of(1, 1),
      Float32Array.of(1, 1),
      adamwInit(2, 2),
      parameters,
      CONFIG,
      (index) => index === 0,
    )
    assert.ok((weights[0] ?? 1) < 1)
    assert.deepEqual(
      [weights[1], state.firstMoment[1], state.secondMoment[1], [...state.steps]],
      [1, 0, 0, [1, 0]],
    )
  })
})
