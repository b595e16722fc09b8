/** Sampling from hand-made distributions; expected probabilities are worked out by hand in each test. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { argmax, sampleFromParts, sampleProbability, sampleToken, tokenLogp } from '../src/sampling/sample.ts'
import type { SamplingOptions } from '../src/sampling/sample.ts'

/** Probabilities 0.5, 0.25, 0.125, 0.125 at temperature 1. */
const LOGITS = Float32Array.from([0.5, 0.25, 0.125, 0.125].map((p) => Math.log(p) + 3))
const OPEN: SamplingOptions = { temperature: 1, topK: 0, topP: 1, minP: 0 }

const choose = (u: number, options: Partial<SamplingOptions>): number =>
  sampleToken(LOGITS, 0, 4, { ...OPEN, ...options }, u).token
/** The set of tokens that some u chooses. */
const reachable = (options: Partial<SamplingOptions>): number[] =>
  [...new Set(Array.from({ length: 100 }, (_, i) => choose(i / 100, options)))].sort((a, b) => a - b)

describe('sampleToken', () => {
  it('walks the cumulative distribution in vocabulary order', () => {
    assert.deepEqual(
      [0, 0.49, 0.51, 0.74, 0.76, 0.87, 0.88, 0.999].map((u) => choose(u, {})),
      [0, 0, 1, 1, 2, 2, 3, 3],
    )
  })

  it('reports the logprob over the whole vocabulary whatever the filters are', () => {
    const { token, logp } = sampleToken(LOGITS, 0, 4, { ...OPEN, topK: 1 }, 0.9)
    assert.equal(token, 0)
    assert.ok(Math.abs(logp - Math.log(0.5)) < 1e-6)
  })

  it('divides logits by the temperature: at 0.5 probabilities are squared and renormalised', () => {
    // 1/4, 1/16, 1/64, 1/64 over 22/64.
    const { logp } = sampleToken(LOGITS, 0, 4, { ...OPEN, temperature: 0.5 }, 0)
    assert.ok(Math.abs(logp - Math.log(16 / 22)) < 1e-6)
  })

  it('top_k keeps the k likeliest', () => assert.deepEqual(reachable({ topK: 2 }), [0, 1]))
  it('top_k breaks ties by the lower token', () => assert.deepEqual(reachable({ topK: 3 }), [0, 1, 2]))
  it('top_p keeps the smallest set that reaches p', () => assert.deepEqual(reachable({ topP: 0.7 }), [0, 1]))
  it('top_p keeps at least one token', () => assert.deepEqual(reachable({ topP: 0.01 }), [0]))
  it('top_p counts after top_k has renormalised', () => {
    // Of the two tokens left, the first has 2/3 of the probability.
    assert.deepEqual(reachable({ topK: 2, topP: 0.66 }), [0])
    assert.deepEqual(reachable({ topK: 2, topP: 0.68 }), [0, 1])
  })
  it('min_p keeps tokens by their share of the likeliest', () => {
    assert.deepEqual(reachable({ minP: 0.4 }), [0, 1])
    assert.deepEqual(reachable({ minP: 0.2 }), [0, 1, 2, 3])
  })

  it('reads its own row and survives large logits', () => {
    const two = Float32Array.from([1000, 0, 0, 1000])
    assert.equal(sampleToken(two, 1, 2, OPEN, 0.5).token, 1)
    assert.equal(sampleToken(two, 0, 2, OPEN, 0.999999).token, 0)
  })
})

describe('sampleProbability', () => {
  it('chooses from probabilities what sampleToken chooses from logits, with every filter', () => {
    const probabilities = Float32Array.from([9, 9, 9, 9, 0.5, 0.25, 0.125, 0.125])
    for (const filter of [{}, { topK: 2 }, { topP: 0.7 }, { minP: 0.4 }, { topK: 3, topP: 0.8, minP: 0.2 }])
      for (const u of [0, 0.3, 0.6, 0.8, 0.99]) {
        const expected = sampleToken(LOGITS, 0, 4, { ...OPEN, ...filter }, u)
        const { token, logp } = sampleProbability(probabilities, 1, 4, { ...OPEN, ...filter }, u)
        assert.equal(token, expected.token)
        assert.ok(Math.abs(logp - expected.logp) < 1e-6)
      }
  })
})

describe('sampleFromParts', () => {
  const largest = LOGITS[0] ?? NaN
  const partSums = (temperature: number): Float32Array => {
    const weights = Array.from(LOGITS, (logit) => Math.exp((logit - largest) / temperature))
    return Float32Array.of(weights[0] + weights[1], weights[2] + weights[3])
  }

  it('chooses from sums over halves of the vocabulary what sampleToken chooses, at any temperature', () => {
    for (const temperature of [0.5, 1, 2])
      for (let u = 0.0037; u < 1; u += 0.01) {
        const expected = sampleToken(LOGITS, 0, 4, { ...OPEN, temperature }, u)
        const { token, logp } = sampleFromParts(
          LOGITS,
          { largest, sums: partSums(temperature) },
          temperature,
          u,
        )
        assert.equal(token, expected.token)
        assert.ok(Math.abs(logp - expected.logp) < 1e-6)
      }
  })

  it('never takes a token or a part without probability, even where rounding leaves u over', () => {
    const logits = Float32Array.from([-Infinity, 0, -Infinity, -Infinity])
    const sums = Float32Array.of(1.0000002, 0)
    assert.equal(sampleFromParts(logits, { largest: 0, sums }, 1, 0).token, 1)
    assert.equal(sampleFromParts(logits, { largest: 0, sums }, 1, 1 - 2 ** -53).token, 1)
  })

  it('has no logprob for a row that is not finite', () => {
    const sums = Float32Array.of(NaN, NaN)
    assert.ok(Number.isNaN(sampleFromParts(LOGITS, { largest: NaN, sums }, 1, 0.5).logp))
  })
})

describe('argmax and tokenLogp', () => {
  it('argmax takes the first of equals and never NaN', () => {
    assert.equal(argmax(Float32Array.from([1, 3, 3, NaN]), 0, 4), 1)
  })
  it('tokenLogp is NaN for a row that is not finite', () => {
    assert.ok(Number.isNaN(tokenLogp(Float32Array.from([NaN, 1]), 0, 2, 0, 1)))
  })
})
