/** Engine against engine: whole models give the same numbers on TensorFlow.js as on ONNX Runtime. */
import assert from 'node:assert/strict'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import * as tf from '@tensorflow/tfjs-core'
import { loadPolicy, type LossBatch, type Policy } from '../src/policy.ts'
import { SEQUENCE_LOSS } from './loss-fixtures.ts'

const GOLDEN = path.join(import.meta.dirname, '../../../test/golden/models')
const LORA = { rank: 4, alpha: 8, targets: ['q_proj', 'v_proj', 'up_proj'] as const, useRslora: false }
const LOSS = { ...SEQUENCE_LOSS, router_aux_loss_coef: 0.01 }
const PROMPTS = [Int32Array.of(11, 12, 13, 14), Int32Array.of(21, 22)]

/** Two rows of one prompt, one completion shorter than the other. */
const BATCH: LossBatch = {
  rows: 2,
  promptLength: 4,
  completionLength: 5,
  promptIds: Int32Array.of(11, 12, 13, 14, 11, 12, 13, 14),
  promptMask: new Int32Array(8).fill(1),
  completionIds: Int32Array.from({ length: 10 }, (_, i) => 31 + i),
  completionMask: Int32Array.of(1, 1, 1, 1, 1, 1, 1, 1, 0, 0),
  advantages: Float32Array.of(1, -1),
  oldLogps: null,
  refLogps: null,
}

const largest = (values: Float32Array): number => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0)

/** Largest difference as a share of the largest number. */
function distance(seen: Float32Array, expected: Float32Array): number {
  assert.equal(seen.length, expected.length)
  return largest(seen.map((x, i) => x - (expected[i] ?? NaN))) / largest(expected)
}

async function decodedLogits(policy: Policy): Promise<Float32Array> {
  const decoding = await policy.startDecoding(PROMPTS)
  const first = decoding.logits.slice()
  await decoding.step(Int32Array.of(7, 8))
  decoding.select([1, 1, 0])
  await decoding.step(Int32Array.of(9, 10, 11))
  const all = Float32Array.from([...first, ...decoding.logits, ...(await decoding.probabilities(0.8))])
  decoding.close()
  return all
}

for (const { model, use4bit, gradientTolerance, decodingTolerance } of [
  { model: 'qwen3-tied-bf16', use4bit: false, gradientTolerance: 1e-4, decodingTolerance: 1e-4 },
  { model: 'qwen3-moe', use4bit: false, gradientTolerance: 1e-4, decodingTolerance: 1e-4 },
  // ONNX Runtime decodes 4-bit weights with 8-bit activations and head; here the same weights meet float32 ones.
  { model: 'qwen3-tied', use4bit: true, gradientTolerance: 1e-4, decodingTolerance: 0.05 },
  { model: 'qwen3-moe', use4bit: true, gradientTolerance: 1e-4, decodingTolerance: 0.05 },
])
  describe(`${model}${use4bit ? ' in 4 bits' : ''} on tfjs and onnx-cpu`, () => {
    let onnx: Policy
    let tfjs: Policy
    before(async () => {
      const options = { modelDir: path.join(GOLDEN, model), lora: LORA, threads: 1, use4bit }
      onnx = await loadPolicy({ ...options, engine: 'onnx-cpu' })
      tfjs = await loadPolicy({ ...options, engine: 'tfjs' })
      const adapter = onnx.initialAdapter(3).map((value, i) => (value === 0 ? 0.02 * Math.sin(i) : value))
      for (const policy of [onnx, tfjs]) policy.setAdapter(adapter)
    })
    after(async () => {
      await onnx.close()
      await tfjs.close()
      assert.equal(tf.memory().numTensors, 0, 'a closed engine keeps no tensor')
    })

    it('has the same log-probabilities, loss and gradient', async () => {
      const scores = { temperature: 0.7, adapter: true }
      const [p, q] = [await tfjs.logprobs(BATCH, scores), await onnx.logprobs(BATCH, scores)]
      assert.ok(distance(p.logps, q.logps) <= 1e-5)
      assert.ok(distance(p.entropies, q.entropies) <= 1e-5)
      const [a, b] = [await tfjs.lossAndGradient(BATCH, LOSS), await onnx.lossAndGradient(BATCH, LOSS)]
      assert.ok(Math.abs(a.loss - b.loss) <= 2e-6)
      assert.ok(largest(b.gradient) > 1e-3)
      assert.ok(distance(a.gradient, b.gradient) <= gradientTolerance)
      assert.deepEqual(a.unreached, b.unreached)
    })

    it('decodes to the same logits, rows dropped and repeated on the way', async () => {
      const off = distance(await decodedLogits(tfjs), await decodedLogits(onnx))
      assert.ok(off <= decodingTolerance, `off by ${off}`)
    })

    it('holds as many tensors after a step as before it', async () => {
      await tfjs.lossAndGradient(BATCH, LOSS)
      const { numTensors, numBytes } = tf.memory()
      await tfjs.lossAndGradient(BATCH, LOSS)
      await decodedLogits(tfjs)
      assert.deepEqual([tf.memory().numTensors, tf.memory().numBytes], [numTensors, numBytes])
    })
  })
