/** The outer update against torch.optim.SGD, and its promises. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { initialMomentum, outerUpdate } from '../src/outer.ts'

describe('the outer update', () => {
  it('adds the mean delta when it is a plain average, and leaves its inputs alone', () => {
    const adapter = Float32Array.of(1, 2)
    const delta = Float32Array.of(0.5, -4)
    const result = outerUpdate(
      { kind: 'average', learningRate: 0.7, momentum: 0.9 },
      adapter,
      new Float32Array(0),
      delta,
    )
    assert.deepEqual(result.adapter, Float32Array.of(1.5, -2))
    assert.equal(result.momentum.length, 0)
    assert.deepEqual(adapter, Float32Array.of(1, 2))
    assert.deepEqual(delta, Float32Array.of(0.5, -4))
  })

  it('is Nesterov momentum as in torch.optim.SGD(lr=0.5, momentum=0.5, nesterov=True)', () => {
    // By hand with the gradient g = -delta, all numbers exact in binary:
    // round 1: m = 1, p = 1 + 0.5 (1 + 0.5 x 1) = 1.75; round 2: m = 0.5 + 2 = 2.5, p = 1.75 + 0.5 (2 + 1.25) = 3.375
    const config = { kind: 'nesterov', learningRate: 0.5, momentum: 0.5 } as const
    const first = outerUpdate(config, Float32Array.of(1), initialMomentum(config, 1), Float32Array.of(1))
    assert.deepEqual([first.adapter[0], first.momentum[0]], [1.75, 1])
    const second = outerUpdate(config, first.adapter, first.momentum, Float32Array.of(2))
    assert.deepEqual([second.adapter[0], second.momentum[0]], [3.375, 2.5])
  })
})
