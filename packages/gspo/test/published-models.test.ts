import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, it } from 'node:test'
import { parseModelConfig } from '../src/models/config.ts'
import type { ModelConfig } from '../src/models/model-config.ts'
import { fullLayout } from '../src/models/full-graph.ts'
import { linearSizes } from '../src/models/modules.ts'
import { ropeFrequencies } from '../src/models/rope.ts'
import { PUBLISHED_MODELS, YARN } from './published-models.ts'

const GOLDEN = path.join(import.meta.dirname, '../../../test/golden/models')

/** Weights by the sizes of a configuration alone; checked below against the weights that the graph asks for. */
function countParameters(config: ModelConfig): number {
  const { hiddenSize: hidden, headSize, heads, kvHeads, moe, linear } = config
  const [queries, keys] = [heads * headSize, kvHeads * headSize]
  const feedForward = (inner: number): number =>
    3 * hidden * inner + (config.mlpBias ? 2 * inner + hidden : 0)
  const full =
    hidden * (queries * (config.attentionGate ? 2 : 1) + 2 * keys) +
    queries * hidden +
    (config.qkvBias ? queries + 2 * keys : 0) +
    (config.outputBias ? hidden : 0) +
    (config.qkNorm ? 2 * headSize : 0)
  let total = config.vocabSize * hidden * (config.tiedHead ? 1 : 2) + hidden
  for (let layer = 0; layer < config.layers; layer++) {
    total += 2 * hidden
    if (linear !== null && config.linearLayers[layer] === true) {
      const { values, channels, qkvz, ba } = linearSizes(linear)
      total +=
        hidden * (qkvz + ba + values) + channels * linear.kernel + 2 * linear.valueHeads + linear.valueSize
    } else total += full
    if (moe === null || config.moeLayers[layer] !== true) total += feedForward(config.intermediateSize)
    else {
      total += moe.experts * (hidden + feedForward(moe.expertSize))
      if (moe.sharedExpertSize !== null) total += hidden + feedForward(moe.sharedExpertSize)
    }
  }
  return total
}

describe('parameters', () => {
  const folders = readdirSync(GOLDEN, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  for (const { name } of folders)
    it(`of the golden model ${name} are those of the weights that the graph asks for`, () => {
      const text = readFileSync(path.join(GOLDEN, name, 'config.json'), 'utf8')
      const config = parseModelConfig(JSON.parse(text), {})
      assert.equal(countParameters(config), fullLayout(config).length)
    })

  for (const { name, config, parameters, headSize } of PUBLISHED_MODELS)
    it(`of ${name} are ${parameters}, as transformers counts`, () => {
      const parsed = parseModelConfig(config, {})
      assert.equal(countParameters(parsed), parameters)
      assert.equal(parsed.headSize, headSize)
    })
})

describe('published configurations', () => {
  const published = (name: string, change: object = {}): ModelConfig => {
    const found = PUBLISHED_MODELS.find((model) => model.name === name)
    assert.ok(found, name)
    return parseModelConfig({ ...found.config, ...change }, {})
  }

  it('Qwen3-Next has softmax attention in every fourth layer, gated, and turns a quarter of each head', () => {
    const { linearLayers, moeLayers, rope, headSize, attentionGate, zeroCentredNorms, moe } =
      published('Qwen3-Next-80B-A3B')
    assert.equal(linearLayers.length, 48)
    linearLayers.forEach((isLinear, layer) => assert.equal(isLinear, layer % 4 !== 3))
    assert.ok(moeLayers.every(Boolean) && attentionGate && zeroCentredNorms)
    assert.equal(ropeFrequencies(rope, headSize).inverse.length, 32)
    assert.deepEqual(
      [moe?.experts, moe?.expertsPerToken, moe?.sharedExpertSize, moe?.normalise],
      [512, 10, 512, true],
    )
  })

  it('Mistral v0.1 slides over 4096 tokens, v0.3, Mixtral and Qwen do not', () => {
    assert.ok(published('Mistral-7B-v0.1').windows.every((window) => window === 4096))
    for (const name of ['Mistral-7B-v0.3', 'Mixtral-8x7B-v0.1', 'Qwen2.5-0.5B', 'QwQ-32B', 'Qwen3-8B'])
      assert.ok(
        published(name).windows.every((window) => window === null),
        name,
      )
  })

  it('Llama 3.1 and 3.2 scale frequencies by 8 and 32 below a quarter of 8192 positions, and keep high ones', () => {
    for (const [name, factor] of [
      ['Llama-3.1-8B', 8],
      ['Llama-3.2-1B', 32],
    ] as const) {
      const { rope, headSize } = published(name)
      const { inverse, attentionFactor } = ropeFrequencies(rope, headSize)
      const plain = ropeFrequencies({ type: 'default', theta: 500000, partialFactor: 1 }, headSize).inverse
      assert.equal(attentionFactor, 1)
      assert.equal(inverse[0], plain[0])
      // The slowest pair turns once in more than 8192 positions, so it is divided by the factor.
      assert.equal(inverse.at(-1), (plain.at(-1) ?? NaN) / factor)
    }
  })

  it('YaRN is read in both spellings of its type; it keeps fast pairs and slows slow ones by its factor', () => {
    const old = published('Qwen2.5-7B with YaRN')
    const named = published('Qwen2.5-7B with YaRN', { rope_scaling: YARN })
    const newer = published('Qwen2.5-7B with YaRN', {
      rope_scaling: null,
      rope_parameters: { ...YARN, rope_theta: 1000000 },
    })
    assert.deepEqual(named.rope, old.rope)
    assert.deepEqual(newer.rope, old.rope)
    const { inverse, attentionFactor } = ropeFrequencies(old.rope, old.headSize)
    // 0.1 ln 4 + 1, as YaRN's paper (arXiv 2309.00071, equation 22) has it.
    assert.ok(Math.abs(attentionFactor - 1.138629436111989) < 1e-12)
    assert.equal(inverse[0], 1)
    assert.ok(Math.abs((inverse.at(-1) ?? NaN) - 1000000 ** (-126 / 128) / 4) < 1e-18)
  })

  it('Qwen2 has biases on q, k and v only; Qwen3 has none and norms its heads', () => {
    const [two, three] = [published('QwQ-32B'), published('Qwen3-32B')]
    assert.deepEqual([two.qkvBias, two.outputBias, two.qkNorm], [true, false, false])
    assert.deepEqual([three.qkvBias, three.outputBias, three.qkNorm], [false, false, true])
  })
})
