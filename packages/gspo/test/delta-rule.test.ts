import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Feed } from '../src/engine/engine.ts'
import { createOnnxCpuEngine } from '../src/engine/onnx-cpu.ts'
import { gradients } from '../src/graph/gradient.ts'
import { GraphBuilder } from '../src/graph/graph.ts'
import type { Tensor } from '../src/graph/ops.ts'
import { CHUNK_TOKENS, chunkLevels, deltaRule, unitLowerInverse } from '../src/models/delta-rule.ts'
import { numbers } from './primitive-cases.ts'
import { runReference, type Value } from './reference-engine.ts'
import { worst } from './loss-fixtures.ts'

interface Sizes {
  heads: number
  share: number
  chunks: number
  length: number
  keySize: number
  valueSize: number
}

type Feeds = Record<string, Value>

const NAMES = ['queries', 'keys', 'values', 'rate', 'logDecay', 'state'] as const

/** Inputs of the delta rule with keys of length 1, rates in 0 to 1, decays below 1. */
function makeFeeds({ heads, share, chunks, length, keySize, valueSize }: Sizes): Feeds {
  const make = (dims: number[], seed: number, map: (x: number) => number = (x) => x): Value => {
    const size = dims.reduce((a, b) => a * b, 1)
    return { dims, values: numbers(size, seed).map(map) }
  }
  const keys = make([heads, 1, chunks, length, keySize], 2)
  for (let at = 0; at < keys.values.length; at += keySize) {
    const one = keys.values.subarray(at, at + keySize)
    const norm = Math.hypot(...one)
    for (let i = 0; i < keySize; i++) one[i] = (one[i] ?? 0) / norm
  }
  return {
    queries: make([heads, 1, chunks, length, keySize], 1),
    keys,
    values: make([heads, share, chunks, length, valueSize], 3),
    rate: make([heads, share, chunks, length, 1], 4, (x) => 0.5 + 0.4 * x),
    logDecay: make([heads, share, chunks, length, 1], 5, (x) => -0.3 * Math.abs(x)),
    state: make([heads, share, keySize, valueSize], 6),
    levels: { dims: [length, length], values: Float64Array.from(chunkLevels(length)) },
  }
}

function build(
  g: GraphBuilder,
  feeds: Feeds,
): { tensors: Record<string, Tensor>; output: Tensor; state: Tensor } {
  const tensors = Object.fromEntries(
    [...NAMES, 'levels'].map((name) => [name, g.input(name, feeds[name]?.dims ?? [])]),
  )
  const get = (name: string): Tensor => tensors[name] ?? g.constant(0)
  const inputs = {
    queries: get('queries'),
    keys: get('keys'),
    values: get('values'),
    rate: get('rate'),
    logDecay: get('logDecay'),
  }
  return { tensors, ...deltaRule(g, inputs, get('state'), get('levels')) }
}

/** The rule as it is defined, token by token: S = decay S; S += k rate (v - k S); read q S / sqrt(keySize). */
function tokenByToken(sizes: Sizes, feeds: Feeds): { output: Float64Array; state: Float64Array } {
  const { heads, share, chunks, length, keySize, valueSize } = sizes
  const at = (name: string, index: number): number => feeds[name]?.values[index] ?? NaN
  const state = Float64Array.from(feeds['state']?.values ?? [])
  const tokens = chunks * length
  const output = new Float64Array(heads * share * tokens * valueSize)
  for (let head = 0; head < heads * share; head++) {
    const own = state.subarray(head * keySize * valueSize, (head + 1) * keySize * valueSize)
    for (let t = 0; t < tokens; t++) {
      const key = (Math.floor(head / share) * tokens + t) * keySize
      const token = head * tokens + t
      const decay = Math.exp(at('logDecay', token))
      for (let i = 0; i < own.length; i++) own[i] = (own[i] ?? 0) * decay
      for (let v = 0; v < valueSize; v++) {
        let found = 0
        for (let k = 0; k < keySize; k++) found += at('keys', key + k) * (own[k * valueSize + v] ?? 0)
        const change = at('rate', token) * (at('values', token * valueSize + v) - found)
        let read = 0
        for (let k = 0; k < keySize; k++) {
          own[k * valueSize + v] = (own[k * valueSize + v] ?? 0) + at('keys', key + k) * change
          read += at('queries', key + k) * (own[k * valueSize + v] ?? 0)
        }
        output[token * valueSize + v] = read / Math.sqrt(keySize)
      }
    }
  }
  return { output, state }
}

describe('delta rule', () => {
  for (const [chunks, length] of [
    [1, 1],
    [1, 7],
    [3, 4],
    [2, 33],
  ] as const)
    it(`${chunks} chunks of ${length} tokens give what one token after the other gives`, () => {
      const big = length > 32
      const sizes = { heads: big ? 1 : 2, share: big ? 1 : 2, chunks, length, keySize: 3, valueSize: 2 }
      const feeds = makeFeeds(sizes)
      const g = new GraphBuilder()
      const { output, state } = build(g, feeds)
      const seen = runReference(g.finish({ output, state }), feeds)
      const expected = tokenByToken(sizes, feeds)
      assert.ok(worst(seen['output']?.values ?? [], expected.output) < 1e-12)
      assert.ok(worst(seen['state']?.values ?? [], expected.state) < 1e-12)
    })

  for (const name of NAMES)
    it(`its gradient to ${name} is the finite difference in float64`, () => {
      const sizes = { heads: 1, share: 2, chunks: 2, length: 3, keySize: 2, valueSize: 2 }
      const feeds = makeFeeds(sizes)
      const g = new GraphBuilder()
      const { tensors, output, state } = build(g, feeds)
      const weigh = (x: Tensor, seed: number): Tensor => {
        const dims = x.shape.map(Number)
        const weights = numbers(
          dims.reduce((a, b) => a * b, 1),
          seed,
        )
        return g.sum(
          g.mul(x, g.constant([...weights], dims)),
          dims.map((_, axis) => axis),
        )
      }
      const scalar = g.add(weigh(output, 8), weigh(state, 9))
      const wanted = tensors[name]
      assert.ok(wanted)
      const [gradient] = gradients(g, scalar, [wanted])
      assert.ok(gradient)
      const seen = runReference(g.finish({ gradient }), feeds)['gradient']?.values ?? new Float64Array(0)
      const graph = g.finish({ scalar })
      const base = feeds[name]
      assert.ok(base)
      base.values.forEach((value, i) => {
        const moved = (by: number): number => {
          const values = base.values.with(i, value + by)
          return (
            runReference(graph, { ...feeds, [name]: { dims: base.dims, values } })['scalar']?.values[0] ?? NaN
          )
        }
        const expected = (moved(1e-5) - moved(-1e-5)) / 2e-5
        assert.ok(Math.abs((seen[i] ?? NaN) - expected) < 1e-8, `${i}: ${seen[i]}, ${expected}`)
      })
    })

  it('stays exact in float32 where all keys are alike, nothing decays and all is replaced', async () => {
    // I + L is all ones below the diagonal: its inverse has 1 and -1 next to it, while powers of L reach 1e18.
    const length = CHUNK_TOKENS
    const g = new GraphBuilder()
    const levels = g.input('levels', ['K', 'K'])
    const inverse = unitLowerInverse(g, g.input('lower', [1, 'K', 'K']), levels)
    const session = await createOnnxCpuEngine({ threads: 1 }).compile(g.finish({ inverse }), {
      weights: 'share',
    })
    const levelValues = chunkLevels(length)
    const lower: Feed = {
      dims: [1, length, length],
      values: levelValues.map((level) => (level >= 0 ? 1 : 0)),
    }
    const out = await session.run({ lower, levels: { dims: [length, length], values: levelValues } })
    await session.close()
    const expected = Float32Array.from({ length: length * length }, (_, at) => {
      const below = Math.floor(at / length) - (at % length)
      return below === 0 ? 1 : below === 1 ? -1 : 0
    })
    assert.equal(worst(out['inverse']?.values ?? [], expected), 0)
  })
})
