/** Poisoned deltas stand out from a round of honest ones; honest ones pass. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { judgeReward, judgeRound, type QualityVerdict, type RoundDelta } from '../src/validate/quality.ts'
import { qualityConfigSchema } from '../src/validate/quality-config.ts'
import { deltaStatistics, logDeviation, median } from '../src/validate/quality-statistics.ts'

const config = qualityConfigSchema.parse({})
const LENGTH = 4096
const spans = Array.from({ length: 8 }, (_, at) => ({ name: `layer.${at}`, offset: at * 512, length: 512 }))

/** Standard normal numbers from a seed: mulberry32 and Box-Muller. */
function normals(seed: number, count: number): Float32Array {
  let state = seed >>> 0
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let word = Math.imul(state ^ (state >>> 15), 1 | state)
    word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word
    return (((word ^ (word >>> 14)) >>> 0) + 0.5) / 4294967296
  }
  return Float32Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  )
}

/** Honest deltas: one common signal and as much noise of their own again (expected pairwise cosine 0.5). */
function honestRound(count: number, seed = 1): RoundDelta[] {
  const signal = normals(seed, LENGTH)
  return Array.from({ length: count }, (_, at) => {
    const noise = normals(seed * 1000 + at + 1, LENGTH)
    return { workerId: `worker-${at}`, values: signal.map((value, i) => 1e-3 * (value + (noise[i] ?? 0))) }
  })
}

function failures(verdict: QualityVerdict | undefined): string[] {
  return (verdict?.checks ?? []).filter(({ ok }) => ok === false).map(({ name }) => name)
}

/** The round with the last delta replaced by `poison` of it. */
function poisoned(poison: (values: Float32Array, round: RoundDelta[]) => Float32Array): QualityVerdict[] {
  const round = honestRound(6)
  const last = round.at(-1)
  assert.ok(last !== undefined)
  return judgeRound([...round.slice(0, -1), { ...last, values: poison(last.values, round) }], spans, config)
}

describe('a round of honest deltas', () => {
  it('passes, whatever the seed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e6 }), fc.integer({ min: 3, max: 8 }), (seed, count) =>
        judgeRound(honestRound(count, seed), spans, config).every(({ ok }) => ok),
      ),
      { numRuns: 20, seed: 3 },
    )
  })

  it('passes even when the deltas have nothing in common', () => {
    const round = Array.from({ length: 6 }, (_, at) => ({
      workerId: `w${at}`,
      values: normals(at + 50, LENGTH),
    }))
    assert.ok(judgeRound(round, spans, config).every(({ ok }) => ok))
  })

  it('is not compared when too small, and says so', () => {
    const [verdict] = judgeRound(honestRound(1), spans, config)
    assert.equal(verdict?.ok, true)
    const names = verdict?.checks.filter(({ ok }) => ok === null).map(({ name }) => name)
    assert.deepEqual(names, ['norm', 'tensor_norm', 'direction', 'signs', 'not_a_copy'])
  })
})

describe('a poisoned delta', () => {
  const cases: readonly [claim: string, poison: Parameters<typeof poisoned>[0], failing: string[]][] = [
    ['ten times too large fails the norm', (v) => v.map((x) => 10 * x), ['norm', 'tensor_norm']],
    ['a hundredth of the size fails the norm', (v) => v.map((x) => x / 100), ['norm', 'tensor_norm']],
    ['turned round fails direction and signs', (v) => v.map((x) => -x), ['direction', 'signs']],
    ['of zeros fails not_zero', (v) => v.map(() => 0), ['not_zero']],
    ['with a NaN fails finite', (v) => v.map((x, i) => (i === 700 ? NaN : x)), ['finite']],
    ['with an infinity fails finite', (v) => v.map((x, i) => (i === 4095 ? Infinity : x)), ['finite']],
    [
      'with one layer blown up fails that tensor',
      (v) => v.map((x, i) => (i < 512 ? 6 * x : x)),
      ['tensor_norm'],
    ],
    [
      'that is another’s fails not_a_copy',
      (_, round) => Float32Array.from(round[2]?.values ?? []),
      ['not_a_copy'],
    ],
    [
      'that is another’s, scaled, fails not_a_copy',
      (_, round) => (round[2]?.values ?? new Float32Array()).map((x) => 1.3 * x),
      ['not_a_copy'],
    ],
  ]
  for (const [claim, poison, failing] of cases) {
    it(claim, () => {
      const verdicts = poisoned(poison)
      assert.deepEqual(failures(verdicts.at(-1)), failing)
      for (const honest of verdicts.slice(0, -1))
        assert.deepEqual(failures(honest), [], 'the honest ones still pass')
    })
  }

  it('is named with place and factor', () => {
    const nan = poisoned((v) => v.map((x, i) => (i === 700 ? NaN : x))).at(-1)
    assert.match(
      nan?.checks[0]?.detail ?? '',
      /^1 of 4096 numbers are not finite, the first is element 188 of layer\.1$/,
    )
    const copy = poisoned((_, round) => (round[2]?.values ?? new Float32Array()).map((x) => -2 * x)).at(-1)
    assert.match(
      copy?.checks.find(({ name }) => name === 'not_a_copy')?.detail ?? '',
      /^-2 times the delta of worker-2/,
    )
  })

  it('does not hide others: two of six turned round both fail', () => {
    const round = honestRound(6).map((delta, at) =>
      at > 3 ? { ...delta, values: delta.values.map((x) => -x) } : delta,
    )
    assert.deepEqual(
      judgeRound(round, spans, config).map(({ ok }) => ok),
      [true, true, true, true, false, false],
    )
  })
})

describe('the statistics', () => {
  it('agree with a calculation by hand', () => {
    // v0 = (3,4), v1 = (4,3), v2 = (0,5): norms 5, 5, 5. cos(v0,v1) = 24/25, cos(v0,v2) = 20/25, cos(v1,v2) = 15/25.
    // For v0: sum of cosines 44/25; |u1 + u2|^2 = 2 + 2 * 15/25 = 16/5; cosine 1.76 / sqrt(3.2) = 0.98387.
    const vectors = [Float32Array.of(3, 4), Float32Array.of(4, 3), Float32Array.of(0, 5)]
    const [first, second, third] = deltaStatistics(vectors, [], { minOthers: 2, minSpread: 0.1 })
    assert.equal(first?.norm, 5)
    assert.equal(first?.normDeviation, 0)
    assert.ok(Math.abs((first?.cosine ?? 0) - 1.76 / Math.sqrt(3.2)) < 1e-12)
    assert.equal(first?.nearest, null)
    assert.deepEqual(second?.nearest, { index: 0, cosine: 24 / 25, scale: 1 })
    assert.equal(third?.signAgreement, 1)
  })

  it('take deviations in the logarithm: logs 0, 1, 2 have median 1 and MAD 1', () => {
    const others = [1, Math.E, Math.E ** 2]
    assert.ok(Math.abs(logDeviation(Math.E ** 4, others, 0.1) - 3 / 1.4826) < 1e-12)
    assert.ok(
      Math.abs(logDeviation(Math.E ** 4, [Math.E, Math.E], 0.5) - 6) < 1e-12,
      'the least spread holds',
    )
    assert.equal(median([4, 1, 3, 2]), 2.5)
  })
})

describe('the held-out reward', () => {
  const score = (rewardMean: number, samples = 1000): Parameters<typeof judgeReward>[0] => ({
    samples,
    rewardMean,
    accuracy: rewardMean,
  })

  it('may rise, and may drop by chance', () => {
    assert.equal(judgeReward(score(0.5), score(0.7), config).ok, true)
    assert.equal(judgeReward(score(0.5), score(0.46), config).ok, true)
    // 20 samples, 0.5 and 0.15: error of the difference sqrt((0.25 + 0.1275) / 20) = 0.137; three are 0.41.
    assert.equal(judgeReward(score(0.5, 20), score(0.15, 20), config).ok, true)
  })

  it('may not drop by more', () => {
    // 1000 samples, 0.5 and 0.4: 3 sqrt((0.25 + 0.24) / 1000) = 0.0664.
    const result = judgeReward(score(0.5), score(0.4), config)
    assert.equal(result.ok, false)
    assert.match(
      result.detail,
      /reward 0\.5 without the delta, 0\.4 with it, 1000 samples; a drop of 0\.0664/,
    )
    assert.equal(judgeReward(score(0.5), score(NaN), config).ok, false)
  })
})
