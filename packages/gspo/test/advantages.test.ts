/** Advantages against TRL's own numbers (golden loss-head) and hand calculation for the cases it does not hold. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { computeAdvantages, momentsOf } from '../src/advantages.ts'
import type { ScaleRewards } from '../src/advantages.ts'

interface GoldenCase {
  readonly rewards: (number | null)[]
  readonly num_generations: number
  readonly scale_rewards: ScaleRewards
  readonly advantages: number[]
  readonly metrics: {
    readonly reward: number
    readonly reward_std: number
    readonly frac_reward_zero_std: number
  }
}

const file = new URL('../../../test/golden/loss-head/loss_head.json', import.meta.url)
const golden = JSON.parse(readFileSync(file, 'utf8')) as { advantages: Record<string, GoldenCase> }

/** TRL computes in float32, this package in float64: rewards that differ by 1e-5 keep three digits of the difference. */
const TOLERANCE = 1e-4

describe("computeAdvantages against TRL's numbers", () => {
  for (const [name, { rewards, num_generations, scale_rewards, advantages, metrics }] of Object.entries(
    golden.advantages,
  ))
    it(name, () => {
      const scores = rewards.map((reward) => reward ?? NaN)
      const { values, groupDeviations } = computeAdvantages(scores, num_generations, scale_rewards)
      assert.equal(values.length, advantages.length)
      for (const [index, expected] of advantages.entries())
        assert.ok(
          Math.abs((values[index] ?? NaN) - expected) <= TOLERANCE * Math.max(1, Math.abs(expected)),
          `${index}: ${values[index]} vs ${expected}`,
        )
      const { mean, deviation } = momentsOf(scores)
      assert.ok(Math.abs(mean - metrics.reward) <= 1e-6 * Math.max(1, mean))
      assert.ok(Math.abs(deviation - metrics.reward_std) <= TOLERANCE * Math.max(1, deviation))
      const equal =
        groupDeviations.filter((groupDeviation) => groupDeviation < 1e-8).length / groupDeviations.length
      if (scale_rewards === 'group') assert.equal(equal, metrics.frac_reward_zero_std)
    })
})

describe('computeAdvantages', () => {
  it('leaves unscorable completions out of mean and deviation', () => {
    const { values, groupMeans } = computeAdvantages([1, 0, NaN, 1], 4, 'group')
    // Mean 2/3; deviation of (1, 0, 1) with n - 1 is sqrt(1/3).
    const scale = Math.sqrt(1 / 3) + 1e-4
    assert.ok(Math.abs((groupMeans[0] ?? NaN) - 2 / 3) < 1e-12)
    assert.deepEqual(values, Float32Array.from([1 / 3 / scale, -2 / 3 / scale, 0, 1 / 3 / scale]))
  })
  it('gives a group of equal rewards exactly zero', () => {
    assert.deepEqual(computeAdvantages([1, 1, 1, 1], 4, 'group').values, new Float32Array(4))
    // 0.1 + 0.1 + 0.1 is 0.30000000000000004 in binary: a third of it is no 0.1.
    for (const reward of [0.1, 0.7, 1.1, -1e9 / 7])
      for (const size of [3, 6, 7]) {
        const { values, groupDeviations } = computeAdvantages(new Array(size).fill(reward), size, 'group')
        assert.deepEqual([values, groupDeviations], [new Float32Array(size), [0]])
      }
  })
  it('gives a group without any score exactly zero', () => {
    assert.deepEqual(computeAdvantages([NaN, NaN], 2, 'batch').values, new Float32Array(2))
  })
  it('scales by nothing with none', () => {
    assert.deepEqual(computeAdvantages([2, 0], 2, 'none').values, Float32Array.from([1, -1]))
  })
})
