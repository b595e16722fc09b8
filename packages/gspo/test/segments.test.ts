import assert from 'node:assert/strict'
import path from 'node:path'
import { describe, it } from 'node:test'
import { splitLayers, tensorsOf } from '../src/models/segment-graphs.ts'
import { loadPolicy, type LossBatch, type LossResult } from '../src/policy.ts'
import { SEQUENCE_LOSS } from './loss-fixtures.ts'

const MODELS = path.join(import.meta.dirname, '../../../test/golden/models')
const LOSS = { ...SEQUENCE_LOSS, temperature: 0.9, max_completion_length: 6 }

/** Two groups of two rows. */
function batch(): LossBatch {
  const prompts = [
    [3, 4, 5, 6],
    [13, 14, 15, 16],
  ] as const
  return {
    rows: 4,
    promptLength: 4,
    completionLength: 6,
    promptIds: Int32Array.from([...prompts[0], ...prompts[0], ...prompts[1], ...prompts[1]]),
    promptMask: new Int32Array(16).fill(1),
    completionIds: Int32Array.from({ length: 24 }, (_, i) => 20 + i),
    completionMask: Int32Array.from({ length: 24 }, (_, i) => (i % 6 < 4 ? 1 : 0)),
    advantages: Float32Array.of(1, -1, 0.5, -0.5),
    oldLogps: null,
    refLogps: null,
  }
}

async function pass(
  model: string,
  use4bit: boolean,
  gradientCheckpointing: boolean,
  balance: number,
): Promise<LossResult> {
  const policy = await loadPolicy({
    modelDir: path.join(MODELS, model),
    lora: { rank: 2, alpha: 4, targets: ['q_proj', 'v_proj', 'up_proj'], useRslora: false },
    engine: 'onnx-cpu',
    threads: 1,
    use4bit,
    gradientCheckpointing,
  })
  try {
    policy.setAdapter(policy.initialAdapter(1).map((value, i) => (value === 0 ? 0.05 * Math.sin(i) : value)))
    return await policy.lossAndGradient(batch(), { ...LOSS, router_aux_loss_coef: balance })
  } finally {
    await policy.close()
  }
}

describe('layers in segments', () => {
  it('splits layers evenly, the last segment being the smaller', () => {
    assert.deepEqual(splitLayers(7, 3), [
      { first: 0, end: 3 },
      { first: 3, end: 6 },
      { first: 6, end: 7 },
    ])
    assert.deepEqual(splitLayers(2, 2).length, 2)
    assert.deepEqual(splitLayers(4, 1), [{ first: 0, end: 4 }])
  })

  it('knows a segment’s matrices by number, not by the alphabet', () => {
    const name = (layer: number): string =>
      `base_model.model.model.layers.${layer}.self_attn.q_proj.lora_A.weight`
    const tensors = [1, 10, 2].map((layer) => ({ name: name(layer), shape: [1, 1] as const, offset: 0 }))
    assert.deepEqual(tensorsOf({ tensors, length: 3 }, { first: 1, end: 3 }), [0, 2])
  })

  for (const [model, what, use4bit, balance] of [
    ['qwen3-tied', '', false, 0],
    ['mistral-swa', '', false, 0],
    ['qwen3-moe', '', false, 0],
    ['qwen3-moe', ', experts balanced', false, 0.1],
    ['qwen3-next', ', experts balanced', false, 0.1],
    ['qwen3-untied', ' in 4 bits', true, 0],
  ] as const)
    it(`give the bits of one piece: ${model}${what}`, async () => {
      const { gradient: expected, ...others } = await pass(model, use4bit, false, balance)
      const { gradient, ...rest } = await pass(model, use4bit, true, balance)
      assert.ok(expected.some((value) => value !== 0))
      assert.deepEqual(gradient, expected)
      assert.deepEqual(rest, others)
    })
})
