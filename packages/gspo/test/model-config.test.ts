import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseModelConfig } from '../src/models/config.ts'
import { ropeFrequencies, ropeTables } from '../src/models/rope.ts'

const MINIMAL = {
  architectures: ['LlamaForCausalLM'],
  vocab_size: 10,
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  max_position_embeddings: 64,
}

describe('model configuration', () => {
  it('fills what transformers leaves out with its class defaults', () => {
    const config = parseModelConfig(MINIMAL, {})
    assert.equal(config.kvHeads, 2)
    assert.equal(config.headSize, 4)
    assert.equal(config.tiedHead, false)
    assert.deepEqual(config.rope, { type: 'default', theta: 10000, partialFactor: 1 })
    assert.deepEqual(config.windows, [null, null])
  })

  it("takes Mixtral's and Mistral's own defaults, where a missing window is not one of null", () => {
    // MixtralConfig() and MistralConfig() of transformers 5.18.
    const mixtral = parseModelConfig(
      { ...MINIMAL, architectures: ['MixtralForCausalLM'], num_local_experts: 2, num_experts_per_tok: 1 },
      {},
    )
    assert.deepEqual([mixtral.normEpsilon, mixtral.rope.theta, mixtral.windows], [1e-5, 1e6, [null, null]])
    const mistral = { ...MINIMAL, architectures: ['MistralForCausalLM'] }
    assert.deepEqual(parseModelConfig(mistral, {}).windows, [4096, 4096])
    assert.deepEqual(parseModelConfig({ ...mistral, sliding_window: null }, {}).windows, [null, null])
  })

  it('takes end tokens from generation_config.json first, one or many', () => {
    const both = parseModelConfig({ ...MINIMAL, eos_token_id: 5 }, { eos_token_id: [6, 7] })
    assert.deepEqual(both.eosTokenIds, [6, 7])
    assert.deepEqual(parseModelConfig({ ...MINIMAL, eos_token_id: 5 }, {}).eosTokenIds, [5])
  })

  it('slides where each family slides', () => {
    const windows = (extra: object): readonly (number | null)[] =>
      parseModelConfig({ ...MINIMAL, sliding_window: 4, ...extra }, {}).windows
    assert.deepEqual(windows({ architectures: ['MistralForCausalLM'] }), [4, 4])
    assert.deepEqual(windows({}), [null, null])
    const qwen = { architectures: ['Qwen2ForCausalLM'], max_window_layers: 1 }
    assert.deepEqual(windows(qwen), [null, null])
    assert.deepEqual(windows({ ...qwen, use_sliding_window: true }), [null, 4])
    assert.deepEqual(windows({ ...qwen, layer_types: ['sliding_attention', 'full_attention'] }), [4, null])
  })

  it('reads experts under both of their names, in the layers that have them', () => {
    const moe = {
      ...MINIMAL,
      architectures: ['Qwen3MoeForCausalLM'],
      num_experts_per_tok: 2,
      moe_intermediate_size: 4,
      decoder_sparse_step: 2,
    }
    for (const key of ['num_experts', 'num_local_experts']) {
      const config = parseModelConfig({ ...moe, [key]: 6 }, {})
      assert.equal(config.moe?.experts, 6)
      assert.deepEqual(config.moeLayers, [false, true])
    }
  })

  const refused: [string, object, RegExp][] = [
    [
      'an unknown architecture',
      { architectures: ['GptBigForCausalLM'] },
      /GptBigForCausalLM.*Qwen3ForCausalLM/,
    ],
    ['no architecture', { architectures: undefined }, /none named/],
    ['a missing size', { vocab_size: undefined }, /vocab_size is missing/],
    ['a size of zero', { hidden_size: 0 }, /hidden_size is 0/],
    ['a size in words', { num_hidden_layers: 'two' }, /num_hidden_layers is "two"/],
    ['another activation', { hidden_act: 'gelu' }, /gelu/],
    ['an unknown rope', { rope_scaling: { rope_type: 'spiral' } }, /spiral.*yarn/],
  ]
  for (const [what, change, message] of refused)
    it(`refuses ${what} and says what it saw`, () => {
      assert.throws(() => parseModelConfig({ ...MINIMAL, ...change }, {}), { name: 'GspoError', message })
    })
})

describe('rotary embedding', () => {
  const base = { theta: 100, partialFactor: 1 }

  it('turns pair i of d by theta^(-2i/d) a position', () => {
    assert.deepEqual(ropeFrequencies({ ...base, type: 'default' }, 4).inverse, [1, 0.1])
    const { cos, sin } = ropeTables({ inverse: [1, 0.1], attentionFactor: 1 }, 2)
    assert.deepEqual([...cos], [1, 1, Math.cos(1), Math.cos(Math.fround(0.1))].map(Math.fround))
    assert.deepEqual([...sin], [0, 0, Math.sin(1), Math.sin(Math.fround(0.1))].map(Math.fround))
  })

  it('linear scaling divides every frequency; a partial factor leaves pairs out', () => {
    assert.deepEqual(ropeFrequencies({ ...base, type: 'linear', factor: 4 }, 4).inverse, [0.25, 0.025])
    assert.equal(ropeFrequencies({ ...base, partialFactor: 0.5, type: 'default' }, 8).inverse.length, 2)
  })

  it('yarn scales cosine and sine by 0.1 ln(factor) + 1 unless the file says otherwise', () => {
    const yarn = {
      ...base,
      type: 'yarn',
      factor: 4,
      originalPositions: 16,
      betaFast: 32,
      betaSlow: 1,
      attentionFactor: null,
      mscale: null,
      mscaleAllDim: null,
      truncate: true,
    } as const
    assert.equal(ropeFrequencies(yarn, 4).attentionFactor, 0.1 * Math.log(4) + 1)
    assert.equal(ropeFrequencies({ ...yarn, attentionFactor: 1.5 }, 4).attentionFactor, 1.5)
    assert.equal(ropeFrequencies({ ...yarn, mscale: 1, mscaleAllDim: 1 }, 4).attentionFactor, 1)
  })
})
