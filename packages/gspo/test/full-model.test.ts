import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { loadFullModel, type FullModel } from '../src/full-model.ts'
import { loadPolicy, type TokenBatch } from '../src/policy.ts'
import { decodeSafetensors } from '../src/weights/safetensors.ts'

const MODEL = path.join(import.meta.dirname, '../../../test/golden/models/qwen3-tied')

/** Two rows of other length, so that padding on both sides takes part. */
const BATCH: TokenBatch = {
  rows: 2,
  promptLength: 4,
  completionLength: 5,
  promptIds: Int32Array.of(11, 12, 13, 14, 0, 0, 21, 22),
  promptMask: Int32Array.of(1, 1, 1, 1, 0, 0, 1, 1),
  completionIds: Int32Array.of(31, 32, 33, 34, 35, 41, 42, 43, 0, 0),
  completionMask: Int32Array.of(1, 1, 1, 1, 1, 1, 1, 1, 0, 0),
}

describe('full model', () => {
  let model: FullModel
  let weights: Float32Array

  before(async () => {
    model = await loadFullModel({ modelDir: MODEL, threads: 1 })
    weights = new Float32Array(model.layout.length)
    const { tensors } = decodeSafetensors(await readFile(path.join(MODEL, 'model.safetensors')))
    assert.deepEqual(
      model.layout.tensors.map(({ name }) => name),
      [...tensors.keys()].sort(),
    )
    for (const { name, offset } of model.layout.tensors)
      weights.set(Float32Array.from(tensors.get(name)?.values ?? []), offset)
  })
  after(() => model.close())

  it('gives the mean of the negative log-probabilities that the policy gives', async () => {
    const lora = { rank: 1, alpha: 1, targets: ['q_proj'] as const, useRslora: false }
    const policy = await loadPolicy({ modelDir: MODEL, lora, engine: 'auto', threads: 1 })
    const { logps } = await policy.logprobs(BATCH, { temperature: 1, adapter: false })
    await policy.close()
    model.setWeights(weights)
    const { loss, tokens } = await model.crossEntropyAndGradient(BATCH)
    assert.equal(tokens, 8)
    assert.ok(Math.abs(loss + logps.reduce((sum, logp) => sum + logp, 0) / 8) < 1e-5)
  })

  it('gives a gradient along which the loss changes as finite differences say, tensor by tensor', async () => {
    model.setWeights(weights)
    const { gradient } = await model.crossEntropyAndGradient(BATCH)
    const lossAt = async (moved: Float32Array): Promise<number> => {
      model.setWeights(moved)
      return (await model.crossEntropyAndGradient(BATCH)).loss
    }
    for (const { name, shape, offset } of model.layout.tensors) {
      const size = shape.reduce((product, dim) => product * dim, 1)
      const own = gradient.subarray(offset, offset + size)
      const norm = Math.hypot(...own)
      assert.ok(norm > 0, `${name} has a gradient`)
      // A step along the gradient that changes the loss by about 0.02, far above float32 noise.
      const step = 0.01 / norm
      const moved = (sign: number): Float32Array => {
        const values = weights.slice()
        own.forEach((value, i) => (values[offset + i] += (sign * step * value) / norm))
        return values
      }
      const slope = ((await lossAt(moved(1))) - (await lossAt(moved(-1)))) / (2 * step)
      assert.ok(Math.abs(slope / norm - 1) < 0.02, `${name}: slope ${slope}, gradient ${norm}`)
    }
  })

  it('refuses weights of another length', () => {
    assert.throws(() => model.setWeights(new Float32Array(3)), { code: 'BAD_ADAPTER', message: /3 weights/ })
  })
})
