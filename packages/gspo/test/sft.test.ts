/** The supervised warm-start: first weights, learning, and a folder that loads. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { loadFullModel } from '../src/full-model.ts'
import { parseModelConfig } from '../src/models/config.ts'
import { fullLayout } from '../src/models/full-graph.ts'
import type { SftConfig } from '../src/sft/config.ts'
import { runSft } from '../src/sft/run-sft.ts'
import { initialWeights } from '../src/sft/weights.ts'
import { createTrainer } from '../src/trainer.ts'
import { ARITH } from './arith.ts'

describe('runSft', () => {
  let dir = ''
  let config: SftConfig
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'gspo-sft-'))
    config = {
      model: ARITH.model,
      dataset: ARITH.train,
      eval_dataset: ARITH.test,
      eval_limit: 20,
      output_dir: join(dir, 'out'),
      batch_size: 16,
      max_steps: 6,
      eval_steps: 3,
      threads: 1,
      lr_scheduler_type: 'constant',
    }
  })
  after(() => rm(dir, { recursive: true }))

  it('brings the loss down from that of a uniform guess and writes a model that loads', async () => {
    const losses: number[] = []
    const last = await runSft(config, { onProgress: ({ loss }) => losses.push(loss) })
    assert.equal(last.step, 6)
    assert.equal(losses.length, 2)
    // ln 259: every token of the vocabulary equally likely, what random weights of deviation 0.02 begin at.
    assert.ok((losses[0] ?? 9) < Math.log(259) && (losses[1] ?? 9) < (losses[0] ?? 0), String(losses))
    const trainer = await createTrainer({
      model: join(dir, 'out'),
      dataset: ARITH.train,
      max_completion_length: 6,
      threads: 1,
    })
    assert.equal(trainer.info.model.parameters, 820_992)
    await trainer.close()
  })
  it('gives the same bytes for the same seed', async () => {
    const first = await readFile(join(dir, 'out', 'model.safetensors'))
    await runSft({ ...config, output_dir: join(dir, 'again') })
    assert.deepEqual(await readFile(join(dir, 'again', 'model.safetensors')), first)
  })
  it('lowers the learning rate from the first evaluation on that is right often enough', async () => {
    const rates: number[] = []
    // Probabilities are above zero from the start, so the first evaluation is "often enough".
    const settling = {
      ...config,
      output_dir: join(dir, 'settling'),
      lr_drop_at_accuracy: 1e-30,
      lr_drop_factor: 0.5,
    }
    await runSft({ ...settling, learning_rate: 1e-3 }, { onProgress: (p) => rates.push(p.learningRate) })
    assert.deepEqual(rates, [1e-3, 5e-4])
  })
  it('refuses rows without an answer, and stops when cancelled', async () => {
    const cancelled = AbortSignal.abort()
    await assert.rejects(runSft(config, { signal: cancelled }), { code: 'CANCELLED' })
    await assert.rejects(runSft({ ...config, dataset: '/no/such.jsonl' }), { code: 'FILE_MISSING' })
    for (const key of ['stop_at_accuracy', 'lr_drop_at_accuracy'])
      await assert.rejects(runSft({ ...config, eval_dataset: undefined, [key]: 0.5 }), { code: 'BAD_CONFIG' })
  })
})

describe('initialWeights', () => {
  it('draws matrices with the given deviation and sets norms to one', async () => {
    const model = await loadFullModel({ modelDir: ARITH.model, threads: 1 })
    await model.close()
    const weights = initialWeights(model.layout, { range: 0.02, seed: 3, zeroCentredNorms: false })
    const embedding = model.layout.tensors.find(({ name }) => name === 'model.embed_tokens.weight')
    const norm = model.layout.tensors.find(({ name }) => name === 'model.norm.weight')
    assert.ok(embedding !== undefined && norm !== undefined)
    const values = weights.subarray(embedding.offset, embedding.offset + 259 * 128)
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length)
    // Four standard errors of 33152 draws.
    assert.ok(Math.abs(mean) < 4 * (0.02 / Math.sqrt(values.length)))
    assert.ok(Math.abs(deviation / 0.02 - 1) < 4 / Math.sqrt(2 * values.length))
    assert.deepEqual(weights.subarray(norm.offset, norm.offset + 128), new Float32Array(128).fill(1))
  })

  it('starts norms that add 1 themselves at 0, and decays as transformers does', async () => {
    const hybrid = new URL('../../../test/golden/models/qwen3-next/config.json', import.meta.url)
    const layout = fullLayout(parseModelConfig(JSON.parse(await readFile(hybrid, 'utf8')), {}))
    const weights = initialWeights(layout, { range: 0.02, seed: 3, zeroCentredNorms: true })
    const of = (name: string): number[] => {
      const found = layout.tensors.find((tensor) => tensor.name === name)
      assert.ok(found, name)
      const size = found.shape.reduce((product, dim) => product * dim, 1)
      return [...weights.subarray(found.offset, found.offset + size)]
    }
    assert.ok(of('model.norm.weight').every((value) => value === 0))
    assert.ok(of('model.layers.3.self_attn.q_norm.weight').every((value) => value === 0))
    assert.ok(of('model.layers.0.linear_attn.norm.weight').every((value) => value === 1))
    assert.ok(of('model.layers.0.linear_attn.dt_bias').every((value) => value === 1))
    const rates = of('model.layers.0.linear_attn.A_log').map(Math.exp)
    assert.ok(rates.every((rate) => rate > 0.0099 && rate < 16.001) && new Set(rates).size === rates.length)
  })
})
