import assert from 'node:assert/strict'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { QUANT_BLOCK } from '../src/defaults.ts'
import { loadPolicy, type LossBatch, type LossConfig, type Policy } from '../src/policy.ts'
import { dequantiseRows, quantiseRows, quantiseTransposed } from '../src/weights/quantise.ts'
import { decodeSafetensors, encodeSafetensors } from '../src/weights/safetensors.ts'

const MODEL = path.join(import.meta.dirname, '../../../test/golden/models/qwen3-untied')
const LORA = { rank: 4, alpha: 8, targets: ['q_proj', 'o_proj', 'down_proj'] as const, useRslora: false }
const LOSS: LossConfig = {
  importance_sampling_level: 'sequence',
  loss_type: 'grpo',
  epsilon: 3e-4,
  epsilon_high: 4e-4,
  beta: 0,
  use_bias_correction_kl: false,
  temperature: 1,
  max_completion_length: 6,
  router_aux_loss_coef: 0,
}

describe('blockwise quantisation', () => {
  it('codes and scales of 4 bits are those worked out by hand', () => {
    // The extreme -4 gets code 0 and scale 0.5; the others round(v / 0.5) + 8.
    const { codes, scales } = quantiseRows(Float32Array.of(-4, 3.5, 1, 0.2), 4)
    assert.deepEqual([...scales], [0.5])
    assert.deepEqual([...codes], [0 | (15 << 4), 10 | (8 << 4)])
  })

  it('a positive extreme gets a negative scale, so that it is exact too', () => {
    const rows = quantiseRows(Float32Array.of(8, -3, 0, 1), 4)
    assert.deepEqual([...rows.scales], [-1])
    // Adding zero turns -0 into 0.
    assert.deepEqual(
      [...dequantiseRows(rows, 4)].map((value) => value + 0),
      [8, -3, 0, 1],
    )
  })

  it('a block of zeros stays zero', () => {
    assert.deepEqual([...dequantiseRows(quantiseRows(new Float32Array(4), 4), 4)].map(Math.abs), [0, 0, 0, 0])
  })

  it('no value is further off than half a step, a whole one at the short end of the range', () => {
    const values = Float32Array.from({ length: 256 }, (_, i) => Math.sin(i * i))
    const rows = quantiseRows(values, 32)
    dequantiseRows(rows, 32).forEach((value, i) => {
      const scale = rows.scales[Math.floor(i / 32)] ?? NaN
      const isShortEnd = (values[i] ?? NaN) / scale > 7
      assert.ok(Math.abs(value - (values[i] ?? NaN)) <= Math.abs(scale) * (isShortEnd ? 1 : 0.5001))
    })
  })

  it('8-bit rows lie as columns, each with its own scale, worked out by hand', () => {
    const into = { codes: new Int8Array(6), scales: new Float32Array(3) }
    // Two rows into columns 1 and 2 of [2, 3]: 127 / 127 = 1 and 2.54 / 127 = 0.02.
    quantiseTransposed(Float32Array.of(127, -3, 1.27, -2.54), 2, 1, into)
    assert.deepEqual([...into.codes], [0, 127, 64, 0, -3, -127])
    assert.deepEqual([...into.scales], [0, 1, Math.fround(0.02)])
  })
})

describe('a 4-bit policy', () => {
  let folder: string
  let quantised: Policy
  let widened: Policy

  before(async () => {
    // The same model twice: quantised at load, and its codes' values written out as float32.
    folder = await mkdtemp(path.join(tmpdir(), 'gym-test-'))
    await cp(MODEL, folder, { recursive: true })
    const file = path.join(folder, 'model.safetensors')
    const { tensors } = decodeSafetensors(await readFile(file))
    const rewritten = [...tensors].map(([name, { shape, values }]) => {
      const isLinear = name.includes('_proj')
      if (!isLinear || !(values instanceof Float32Array)) return [name, { shape, values }] as const
      return [
        name,
        { shape, values: dequantiseRows(quantiseRows(values, QUANT_BLOCK), QUANT_BLOCK) },
      ] as const
    })
    await writeFile(file, encodeSafetensors(rewritten))
    quantised = await loadPolicy({ modelDir: MODEL, lora: LORA, engine: 'auto', threads: 1, use4bit: true })
    widened = await loadPolicy({ modelDir: folder, lora: LORA, engine: 'auto', threads: 1 })
    const adapter = quantised.initialAdapter(3).map((value, i) => (value === 0 ? 0.02 * Math.sin(i) : value))
    quantised.setAdapter(adapter)
    widened.setAdapter(adapter)
  })
  after(async () => {
    await quantised.close()
    await widened.close()
    await rm(folder, { recursive: true, force: true })
  })

  const prompt = Int32Array.from({ length: 8 }, (_, i) => 5 + 3 * i)
  const batch: LossBatch = {
    rows: 2,
    promptLength: 8,
    completionLength: 6,
    promptIds: Int32Array.from([...prompt, ...prompt]),
    promptMask: new Int32Array(16).fill(1),
    completionIds: Int32Array.from({ length: 12 }, (_, i) => 9 + i),
    completionMask: new Int32Array(12).fill(1),
    advantages: Float32Array.of(1, -1),
    oldLogps: null,
    refLogps: null,
  }
  const largest = (values: Float32Array): number => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
  const distance = (a: Float32Array, b: Float32Array): number => largest(a.map((x, i) => x - (b[i] ?? NaN)))

  it('trains on exactly the values that its codes stand for, gradients included', async () => {
    const [a, b] = [await quantised.lossAndGradient(batch, LOSS), await widened.lossAndGradient(batch, LOSS)]
    assert.ok(largest(b.gradient) > 0.01)
    assert.ok(distance(a.gradient, b.gradient) <= 1e-5 * largest(b.gradient))
    const scores = { temperature: 1, adapter: true }
    const [p, q] = [await quantised.logprobs(batch, scores), await widened.logprobs(batch, scores)]
    assert.ok(distance(p.logps, q.logps) <= 1e-5)
  })

  it('decodes with 8-bit activations close to the values that its codes stand for', async () => {
    const [a, b] = [await quantised.startDecoding([prompt]), await widened.startDecoding([prompt])]
    // 8-bit activations and an 8-bit head: about a hundredth of the logits' spread.
    assert.ok(distance(a.logits, b.logits) <= 0.05 * largest(b.logits))
    await a.step(Int32Array.of(7))
    await b.step(Int32Array.of(7))
    assert.ok(distance(a.logits, b.logits) <= 0.05 * largest(b.logits))
    a.close()
    b.close()
  })
})
