import assert from 'node:assert/strict'
import { cp, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { loadPolicy, type LossBatch, type Policy, type PolicyOptions } from '../src/policy.ts'
import { SEQUENCE_LOSS } from './loss-fixtures.ts'

const GOLDEN = path.join(import.meta.dirname, '../../../test/golden/models')
const LORA = { rank: 4, alpha: 8, targets: ['q_proj', 'v_proj', 'up_proj'] as const, useRslora: false }
const OPTIONS: PolicyOptions = {
  modelDir: path.join(GOLDEN, 'qwen3-tied'),
  lora: LORA,
  engine: 'auto',
  threads: 1,
}

/** Four rows, two of a prompt each, prompts padded left, completions right. */
function batch(): LossBatch {
  const [one, two] = [
    [0, 0, 11, 12],
    [21, 22, 23, 24],
  ] as const
  return {
    rows: 4,
    promptLength: 4,
    completionLength: 5,
    promptIds: Int32Array.from([...one, ...one, ...two, ...two]),
    promptMask: Int32Array.from([0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    completionIds: Int32Array.from({ length: 20 }, (_, i) => 31 + i),
    completionMask: Int32Array.from([1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0]),
    advantages: Float32Array.of(1, -1, 0.5, -0.5),
    oldLogps: null,
    refLogps: null,
  }
}

function close(seen: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  assert.equal(seen.length, expected.length)
  for (let i = 0; i < seen.length; i++)
    assert.ok(
      Math.abs((seen[i] ?? NaN) - (expected[i] ?? NaN)) <= tolerance,
      `${i}: ${seen[i]}, ${expected[i]}`,
    )
}

describe('policy', () => {
  let policy: Policy
  before(async () => {
    policy = await loadPolicy(OPTIONS)
    policy.setAdapter(policy.initialAdapter(1).map((value, i) => (value === 0 ? 0.05 * Math.sin(i) : value)))
  })
  after(() => policy.close())

  /** One row of a batch, as a batch of its own. */
  const row = (all: LossBatch, index: number): LossBatch => {
    const cut = <T extends Int32Array | Float32Array>(values: T, size: number): T =>
      values.slice(index * size, (index + 1) * size) as T
    return {
      ...all,
      rows: 1,
      promptIds: cut(all.promptIds, 4),
      promptMask: cut(all.promptMask, 4),
      completionIds: cut(all.completionIds, 5),
      completionMask: cut(all.completionMask, 5),
      advantages: cut(all.advantages, 1),
    }
  }

  it('a prompt shared by its group gives what each row gives alone', async () => {
    const all = batch()
    const together = await policy.logprobs(all, { temperature: 0.9, adapter: true })
    for (let index = 0; index < 4; index++) {
      const alone = await policy.logprobs(row(all, index), { temperature: 0.9, adapter: true })
      close(alone.logps, together.logps.subarray(5 * index, 5 * index + 5), 1e-5)
      close(alone.entropies, together.entropies.subarray(5 * index, 5 * index + 5), 1e-5)
    }
  })

  it('the gradient of a group is the sum of its rows’ gradients', async () => {
    const all = batch()
    const whole = await policy.lossAndGradient(all, SEQUENCE_LOSS)
    const sum = new Float32Array(whole.gradient.length)
    for (let index = 0; index < 4; index++) {
      const { gradient } = await policy.lossAndGradient(row(all, index), SEQUENCE_LOSS)
      gradient.forEach((value, i) => (sum[i] += value / 4))
    }
    const largest = whole.gradient.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    assert.ok(largest > 1e-3)
    close(whole.gradient, sum, 1e-5 * largest)
  })

  it('decoding gives the log-probabilities of the training forward', async () => {
    const all = row(batch(), 2)
    const full = { ...all, completionMask: new Int32Array(5).fill(1) }
    const { logps } = await policy.logprobs(full, { temperature: 0.7, adapter: true })
    const decoding = await policy.startDecoding([all.promptIds])
    for (let i = 0; i < 5; i++) {
      const probabilities = await decoding.probabilities(0.7)
      const token = all.completionIds[i] ?? 0
      close([Math.log(probabilities[token] ?? 0)], [logps[i] ?? NaN], 1e-4)
      close([probabilities.reduce((sum, value) => sum + value, 0)], [1], 1e-5)
      const parts = await decoding.partSums(0.7)
      assert.ok(parts !== undefined)
      const { largest, sums } = parts
      const total = sums.reduce((sum, value) => sum + value, 0)
      const fromSums = ((decoding.logits[token] ?? 0) - (largest[0] ?? 0)) / 0.7 - Math.log(total)
      close([fromSums], [logps[i] ?? NaN], 1e-4)
      if (i < 4) await decoding.step(Int32Array.of(token))
    }
    decoding.close()
  })

  it('select repeats, reorders and drops rows, over a cache that grows past its first block', async () => {
    const prompts = [Int32Array.of(5, 6, 7), Int32Array.of(8)]
    const tokens = (step: number, id: number): number => 40 + 3 * step + id
    const alone = await Promise.all(
      prompts.map(async (prompt) => {
        const decoding = await policy.startDecoding([prompt])
        for (let step = 0; step < 40; step++) await decoding.step(Int32Array.of(tokens(step, prompt.length)))
        return decoding.logits
      }),
    )
    const decoding = await policy.startDecoding(prompts)
    decoding.select([1, 0, 1])
    assert.equal(decoding.rows, 3)
    for (let step = 0; step < 20; step++)
      await decoding.step(Int32Array.of(tokens(step, 1), tokens(step, 3), tokens(step, 1)))
    decoding.select([1, 2])
    for (let step = 20; step < 40; step++)
      await decoding.step(Int32Array.of(tokens(step, 3), tokens(step, 1)))
    close(decoding.logits, [...(alone[0] ?? []), ...(alone[1] ?? [])], 1e-4)
    decoding.close()
  })

  it('groups that finish unevenly, some of their rows computed twice, give what each row gives alone', async () => {
    // Prompts so long that a copy of one costs more than a row: of 3 rows and 1, then of 2 and 1.
    const prompts = [100, 90].map((length) =>
      Int32Array.from({ length }, (_, i) => 3 + ((7 * i + length) % 90)),
    )
    const token = (step: number, row: number): number => 5 + 4 * step + row
    const rowsOf = (step: number): readonly number[] => (step < 10 ? [0, 1, 2, 3] : [3, 0, 2])
    const promptOf = [0, 0, 1, 0]
    const decoding = await policy.startDecoding(prompts)
    decoding.select(promptOf)
    for (let step = 0; step < 20; step++) {
      if (step === 10) decoding.select(rowsOf(step))
      await decoding.step(Int32Array.from(rowsOf(step), (row) => token(step, row)))
    }
    assert.equal(decoding.rows, 3)
    const { vocabSize } = policy.model
    for (const [index, row] of rowsOf(19).entries()) {
      const alone = await policy.startDecoding([prompts[promptOf[row] ?? 0] ?? Int32Array.of()])
      for (let step = 0; step < 20; step++) await alone.step(Int32Array.of(token(step, row)))
      close(decoding.logits.subarray(index * vocabSize, (index + 1) * vocabSize), alone.logits, 1e-4)
      alone.close()
    }
    decoding.close()
  })

  it('an adapter whose B is zero changes nothing, and initial ones repeat with their seed', async () => {
    const fresh = policy.initialAdapter(7)
    assert.deepEqual(fresh, policy.initialAdapter(7))
    assert.notDeepEqual(fresh, policy.initialAdapter(8))
    const other = await loadPolicy(OPTIONS)
    other.setAdapter(fresh)
    const scores = { temperature: 1, adapter: true }
    const seen = await other.logprobs(batch(), scores)
    close(seen.logps, (await other.logprobs(batch(), { ...scores, adapter: false })).logps, 0)
    await other.close()
  })

  it('a batch without any real completion token costs nothing', async () => {
    const empty = { ...batch(), completionMask: new Int32Array(20) }
    const { loss, gradient } = await policy.lossAndGradient(empty, SEQUENCE_LOSS)
    assert.equal(loss, 0)
    assert.ok(gradient.every((value) => value === 0))
  })

  const refused: [string, () => Promise<unknown>, string, RegExp][] = [
    [
      'a batch of the wrong length',
      () => policy.logprobs({ ...batch(), rows: 5 }, { temperature: 1, adapter: true }),
      'BAD_BATCH',
      /promptIds has 16/,
    ],
    [
      'a token outside the vocabulary',
      () =>
        policy.logprobs(
          { ...batch(), promptIds: new Int32Array(16).fill(999) },
          { temperature: 1, adapter: true },
        ),
      'BAD_BATCH',
      /999.*512/,
    ],
    [
      'a temperature of zero',
      () => policy.logprobs(batch(), { temperature: 0, adapter: true }),
      'BAD_OPTION',
      /temperature is 0/,
    ],
    [
      'beta without reference log-probabilities',
      () => policy.lossAndGradient(batch(), { ...SEQUENCE_LOSS, beta: 0.1 }),
      'BAD_BATCH',
      /refLogps/,
    ],
    ['decoding from nothing', () => policy.startDecoding([]), 'BAD_BATCH', /at least one prompt/],
    [
      'more tokens than positions',
      () => policy.startDecoding([new Int32Array(300).fill(3)]),
      'BAD_BATCH',
      /300 tokens.*256/,
    ],
    ['another number of threads', () => loadPolicy({ ...OPTIONS, threads: 0 }), 'BAD_OPTION', /threads is 0/],
    [
      'a rank of zero',
      () => loadPolicy({ ...OPTIONS, lora: { ...LORA, rank: 0 } }),
      'BAD_OPTION',
      /rank is 0/,
    ],
    ['no targets', () => loadPolicy({ ...OPTIONS, lora: { ...LORA, targets: [] } }), 'BAD_OPTION', /q_proj/],
    [
      'a folder that is not there',
      () => loadPolicy({ ...OPTIONS, modelDir: '/nowhere/model' }),
      'FILE_MISSING',
      /nowhere/,
    ],
  ]
  for (const [what, call, code, message] of refused)
    it(`refuses ${what}`, async () => {
      await assert.rejects(call(), { name: 'GspoError', code, message })
    })

  it('refuses an adapter of another length', () => {
    assert.throws(() => policy.setAdapter(new Float32Array(2)), { code: 'BAD_ADAPTER', message: /2 numbers/ })
  })

  it('says that it is closed', async () => {
    const other = await loadPolicy(OPTIONS)
    const decoding = await other.startDecoding([Int32Array.of(4)])
    decoding.close()
    await assert.rejects(decoding.step(Int32Array.of(4)), { code: 'CLOSED' })
    await other.close()
    await assert.rejects(other.startDecoding([Int32Array.of(4)]), { code: 'CLOSED' })
  })
})

describe('loading a damaged model', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'gym-test-'))
    await cp(OPTIONS.modelDir, folder, { recursive: true })
  })
  after(() => rm(folder, { recursive: true, force: true }))

  it('says which tensor of a wrong shape it met', async () => {
    const file = path.join(folder, 'config.json')
    const text = await readFile(file, 'utf8')
    await writeFile(file, text.replace('"vocab_size": 512', '"vocab_size": 600'))
    await assert.rejects(loadPolicy({ ...OPTIONS, modelDir: folder }), {
      code: 'TENSOR_SHAPE',
      message: /embed_tokens.*600/,
    })
    await writeFile(file, text.replace('"num_hidden_layers": 3', '"num_hidden_layers": 4'))
    await assert.rejects(loadPolicy({ ...OPTIONS, modelDir: folder }), {
      code: 'TENSOR_MISSING',
      message: /layers\.3/,
    })
    await writeFile(file, text)
  })

  it('sees that the weights are cut off', async () => {
    await truncate(path.join(folder, 'model.safetensors'), 400_000)
    await assert.rejects(loadPolicy({ ...OPTIONS, modelDir: folder }), {
      code: 'BAD_SAFETENSORS',
      message: /truncated/,
    })
  })
})
