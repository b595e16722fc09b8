/** A step's statistics from a trace of two groups; every expected number is worked out by hand. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { computeAdvantages } from '../src/advantages.ts'
import type { LearnStats } from '../src/learn.ts'
import type { WeightedReward } from '../src/rewards/score.ts'
import { describeStep } from '../src/stats.ts'
import type { StepTrace, TracedCompletion } from '../src/trace/types.ts'

const completion = (length: number, reward: number, components: number[]): TracedCompletion => ({
  tokens: new Int32Array(length),
  logps: new Float32Array(length),
  finish: length === 8 ? 'length' : 'eos',
  reward,
  components,
})

const TRACE: StepTrace = {
  step: 7,
  seed: 1,
  groups: [
    {
      dataPosition: 4,
      promptIds: new Int32Array(5),
      completions: [completion(2, 1, [1, 0]), completion(4, 0, [0, 0]), completion(8, NaN, [NaN, NaN])],
    },
    {
      dataPosition: 5,
      promptIds: new Int32Array(3),
      completions: [completion(8, 0.5, [0, 1]), completion(1, 0.5, [0, 1]), completion(3, 0.5, [0, NaN])],
    },
  ],
}

const LEARNED: LearnStats = {
  loss: -0.25,
  gradNorm: 3,
  clipRatioLow: 0.125,
  clipRatioHigh: 0.5,
  kl: 0.01,
  entropy: 1.5,
  ratioMean: 1.0625,
  learningRate: 1e-4,
  forwardBackwardSeconds: 2,
  optimizerSeconds: 0.5,
}

const named = (name: string): WeightedReward => ({
  reward: { name, deterministic: true, score: () => Promise.resolve([]) },
  weight: 1,
  timeoutMs: 1,
})

describe('describeStep', () => {
  const rewards = TRACE.groups.flatMap((group) => group.completions.map(({ reward }) => reward))
  const advantages = computeAdvantages(rewards, 3, 'group')
  const stats = describeStep(TRACE, { stats: LEARNED, advantages }, [named('exact'), named('length')], {
    rollout: 3,
    reward: 0.25,
    total: 6.5,
  })

  it('mean and deviation of rewards are over what could be scored', () => {
    // 1, 0, 0.5, 0.5, 0.5: mean 0.5, squares 0.25 + 0.25 over 4.
    assert.equal(stats.rewardMean, 0.5)
    assert.ok(Math.abs(stats.rewardStd - Math.sqrt(0.125)) < 1e-12)
    assert.equal(stats.unscorable, 1)
    assert.deepEqual(stats.rewardMeans, [
      { name: 'exact', mean: 0.2 },
      { name: 'length', mean: 0.5 },
    ])
  })

  it('counts lengths, cut completions and tokens', () => {
    assert.deepEqual(
      [stats.completionLengthMean, stats.completionLengthMin, stats.completionLengthMax],
      [26 / 6, 1, 8],
    )
    assert.equal(stats.truncatedFraction, 2 / 6)
    assert.deepEqual([stats.promptTokens, stats.generatedTokens], [8, 26])
    assert.equal(stats.tokensPerSecond, 26 / 6.5)
  })

  it('half of the groups have equal rewards', () => assert.equal(stats.zeroVarianceFraction, 0.5))

  it('hands on what the updates saw and where the time went', () => {
    const { loss, gradNorm, clipRatioLow, clipRatioHigh, kl, entropy, ratioMean, learningRate } = stats
    assert.deepEqual(
      [loss, gradNorm, clipRatioLow, clipRatioHigh, kl, entropy, ratioMean, learningRate],
      [-0.25, 3, 0.125, 0.5, 0.01, 1.5, 1.0625, 1e-4],
    )
    assert.deepEqual(stats.seconds, {
      rollout: 3,
      reward: 0.25,
      forwardBackward: 2,
      optimizer: 0.5,
      total: 6.5,
    })
    assert.deepEqual([stats.step, stats.groups, stats.completions], [7, 2, 6])
  })
})
