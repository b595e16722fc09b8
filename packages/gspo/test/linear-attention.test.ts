/** Qwen3-Next's hybrid of recurrent and softmax layers as a policy: states beside the cache, padding, 4 bits, replay. */
import assert from 'node:assert/strict'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { GSPOConfig } from '../src/config.ts'
import { loadPolicy, type Policy, type PolicyOptions, type TokenBatch } from '../src/policy.ts'
import { createTrainer } from '../src/trainer.ts'
import { ARITH } from './arith.ts'
import { worst } from './loss-fixtures.ts'

const MODEL = path.join(import.meta.dirname, '../../../test/golden/models/qwen3-next')
const TARGETS = ['q_proj', 'in_proj_qkvz', 'in_proj_ba', 'out_proj', 'down_proj'] as const
const OPTIONS: PolicyOptions = {
  modelDir: MODEL,
  lora: { rank: 2, alpha: 4, targets: TARGETS, useRslora: false },
  engine: 'auto',
  threads: 1,
}

/** Reference noise of this checkpoint's logits is up to 7e-5 (golden/README.md); log-probabilities are differences. */
const TOLERANCE = 5e-4

/** Ids that repeat with no short period. */
function ids(length: number, seed: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => 3 + ((i * i * 7 + i * seed + seed) % 500))
}

/** Each prompt twice, with completions of `length` tokens; prompts padded on the left to `width`. */
function batchOf(prompts: readonly Int32Array[], length: number, width: number): TokenBatch {
  const rows = 2 * prompts.length
  const promptIds = new Int32Array(rows * width)
  const promptMask = new Int32Array(rows * width)
  for (let row = 0; row < rows; row++) {
    const prompt = prompts[row >> 1] ?? new Int32Array(0)
    promptIds.set(prompt, (row + 1) * width - prompt.length)
    promptMask.fill(1, (row + 1) * width - prompt.length, (row + 1) * width)
  }
  return {
    rows,
    promptLength: width,
    completionLength: length,
    promptIds,
    promptMask,
    completionIds: ids(rows * length, 11),
    completionMask: new Int32Array(rows * length).fill(1),
  }
}

describe('a hybrid model', () => {
  let policy: Policy
  before(async () => {
    policy = await loadPolicy(OPTIONS)
    policy.setAdapter(policy.initialAdapter(1).map((value, i) => (value === 0 ? 0.05 * Math.sin(i) : value)))
  })
  after(() => policy.close())

  it('puts LoRAs under PEFT’s names on the layers that have them, experts and shared expert included', () => {
    const names = policy.adapterLayout.tensors.map(({ name }) => name)
    const has = (module: string): boolean =>
      names.includes(`base_model.model.model.layers.${module}.lora_A.weight`)
    for (const module of ['0.linear_attn.in_proj_qkvz', '0.linear_attn.in_proj_ba', '2.linear_attn.out_proj'])
      assert.ok(has(module), module)
    assert.ok(has('3.self_attn.q_proj') && !has('0.self_attn.q_proj') && !has('3.linear_attn.out_proj'))
    assert.ok(has('0.mlp.experts.3.down_proj') && has('0.mlp.shared_expert.down_proj'))
    // q_proj makes a gate beside the queries: 2 * 4 heads of 32.
    const b = policy.adapterLayout.tensors.find(({ name }) =>
      name.endsWith('3.self_attn.q_proj.lora_B.weight'),
    )
    assert.deepEqual(b?.shape, [256, 2])
  })

  it('token after token gives what whole chunks give, over prompts of several pieces, forked and left padded', async () => {
    // 90 tokens are two chunks in training, two pieces in prefill; 5 tokens have 85 of padding before them.
    const prompts = [ids(90, 5), ids(5, 9)]
    const batch = batchOf(prompts, 6, 90)
    const { logps } = await policy.logprobs(batch, { temperature: 1, adapter: true })
    const { vocabSize } = policy.model
    const decoding = await policy.startDecoding(prompts)
    decoding.select([1, 0, 1, 0])
    const rowOf = [2, 0, 3, 1]
    const seen = new Float32Array(logps.length)
    for (let step = 0; step < batch.completionLength; step++) {
      const probabilities = await decoding.probabilities(1)
      const tokens = Int32Array.from(rowOf, (row) => batch.completionIds[row * 6 + step] ?? 0)
      for (const [index, row] of rowOf.entries())
        seen[row * 6 + step] = Math.log(probabilities[index * vocabSize + (tokens[index] ?? 0)] ?? NaN)
      if (step < 5) await decoding.step(tokens)
    }
    decoding.close()
    const distance = worst(seen, logps)
    assert.ok(distance <= TOLERANCE, `off by ${distance}`)
  })

  it('padding leaves no trace: a prompt of 5 tokens gives the same beside one of 70 and one of 90', async () => {
    const scores = { temperature: 1, adapter: true }
    const [long, short] = [ids(90, 4), ids(5, 9)]
    const wide = await policy.logprobs(batchOf([short, long], 4, 90), scores)
    const narrow = await policy.logprobs(batchOf([short, long.slice(20)], 4, 70), scores)
    const distance = worst(wide.logps.subarray(0, 8), narrow.logps.subarray(0, 8))
    assert.ok(distance <= TOLERANCE, `off by ${distance}`)
  })

  it('4 bits: decoding is close to the training forward on the same codes', async () => {
    const quantised = await loadPolicy({ ...OPTIONS, use4bit: true })
    try {
      const prompt = ids(12, 5)
      const batch = batchOf([prompt], 1, 12)
      const { logps } = await quantised.logprobs(batch, { temperature: 1, adapter: false })
      const full = await policy.logprobs(batch, { temperature: 1, adapter: false })
      const decoding = await quantised.startDecoding([prompt])
      const probabilities = await decoding.probabilities(1)
      decoding.close()
      const logp = Math.log(probabilities[batch.completionIds[0] ?? 0] ?? NaN)
      // 8-bit activations in decoding: within a few hundredths; the codes themselves are further from float32.
      assert.ok(Math.abs(logp - (logps[0] ?? NaN)) < 0.3, `${logp}, ${logps[0]}`)
      assert.ok(worst(logps, full.logps) > 1e-3, 'the frozen layers are in 4 bits')
    } finally {
      await quantised.close()
    }
  })
})

describe('a trainer on a hybrid model', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'gym-hybrid-'))
    await cp(MODEL, folder, { recursive: true })
    // The demo model's byte tokenizer: its 259 ids lie inside the checkpoint's 512.
    for (const file of ['tokenizer.json', 'tokenizer_config.json'])
      await cp(path.join(ARITH.model, file), path.join(folder, file))
  })
  after(() => rm(folder, { recursive: true, force: true }))

  it('steps in segments of layers, and a replay of the trace in one piece ends in the same bits', async () => {
    const config: GSPOConfig = {
      model: folder,
      dataset: ARITH.train,
      prompts_per_step: 2,
      group_size: 2,
      max_completion_length: 5,
      learning_rate: 1e-4,
      lora_rank: 2,
      lora_alpha: 4,
      lora_targets: ['in_proj_qkvz', 'q_proj'],
      // Something that random weights do now and then: without an advantage there is no gradient.
      rewards: [{ name: 'regex', pattern: '[!-~]' }],
      threads: 1,
      seed: 3,
    }
    const worker = await createTrainer({ ...config, gradient_checkpointing: true })
    const validator = await createTrainer({ ...config, gradient_checkpointing: false })
    try {
      const { trace, stats } = await worker.step()
      assert.equal(stats.completions, 4)
      assert.ok(stats.gradNorm > 0, 'of a group’s completions some have such a character')
      const [replayed] = await validator.replay([trace])
      assert.ok(replayed)
      assert.deepEqual(await validator.exportState(), await worker.exportState())
      for (const [place, group] of trace.groups.entries())
        for (const [row, { logps }] of group.completions.entries())
          assert.ok(worst(logps, replayed.groups[place]?.completions[row]?.logps ?? []) <= TOLERANCE)
    } finally {
      await worker.close()
      await validator.close()
    }
  })
})
