/** Every model family against transformers: logits through the KV cache, log-probabilities, greedy generation. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { describe, it } from 'node:test'
import { KNOWN_ARCHITECTURES, parseModelConfig } from '../../packages/gspo/src/models/config.ts'
import { loadPolicy, type Decoding, type Policy } from '../../packages/gspo/src/policy.ts'
import { assertClose, findCases, GOLDEN_DIR, onEngines, readJson, Tensors } from './golden.ts'
import { argmaxRows, batchOf, isHybrid, sequences } from './model-cases.ts'

/** golden/README.md: logits 1e-4, hybrids with a delta rule 1e-3; log-probabilities are differences of logits. */
const LOGIT_TOLERANCE = 1e-4
const HYBRID_TOLERANCE = 1e-3

/** Any adapter will do: it stays at zero here. */
const LORA = { rank: 2, alpha: 4, targets: ['q_proj', 'v_proj'] as const, useRslora: false }

for (const { name, engine, skip } of await onEngines(findCases('models', 'golden.json')))
  describe(`model ${name} on ${engine}`, { skip }, () => {
    const folder = path.join('models', name)
    const modelDir = path.join(GOLDEN_DIR, folder)
    const golden = new Tensors(folder, 'golden.safetensors')
    const vocabSize = golden.shape('logits')[2] ?? 0
    const rows = sequences(golden)
    const tolerance = isHybrid(modelDir) ? HYBRID_TOLERANCE : LOGIT_TOLERANCE
    const width = golden.shape('input_ids')[1] ?? 0

    const architecture = readJson<{ architectures: string[] }>(folder, 'config.json').architectures[0] ?? ''
    if (!KNOWN_ARCHITECTURES.includes(architecture)) {
      it(`refuses ${architecture} by name`, async () => {
        const refused = loadPolicy({ modelDir, lora: LORA, engine, threads: 1 })
        await assert.rejects(refused, { code: 'UNKNOWN_ARCHITECTURE', message: new RegExp(architecture) })
      })
      return
    }

    const withPolicy = async (use: (policy: Policy) => Promise<void>): Promise<void> => {
      const policy = await loadPolicy({ modelDir, lora: LORA, engine, threads: 1 })
      try {
        await use(policy)
      } finally {
        await policy.close()
      }
    }
    const expectedLogits = (row: number, position: number): Float32Array =>
      golden
        .floats('logits')
        .subarray((row * width + position) * vocabSize, (row * width + position + 1) * vocabSize)

    it(
      'reads both layouts of config.json alike',
      { skip: !existsSync(path.join(modelDir, 'config.v4.json')) },
      () => {
        const generation = readJson(folder, 'generation_config.json')
        assert.deepEqual(
          parseModelConfig(readJson(folder, 'config.v4.json'), generation),
          parseModelConfig(readJson(folder, 'config.json'), generation),
        )
      },
    )

    it('logits of one prefill and of token after token are those of the full forward', () =>
      withPolicy(async (policy) => {
        const shortest = Math.min(...rows.map((row) => row.length))
        // The rows' first tokens one at a time, all rows together; then what is left of each row alone.
        const decoding = await policy.startDecoding(rows.map((row) => row.slice(0, 2)))
        for (let position = 1; position < shortest; position++) {
          rows.forEach((_, row) => {
            const seen = decoding.logits.subarray(row * vocabSize, (row + 1) * vocabSize)
            assertClose(seen, expectedLogits(row, position), tolerance, `row ${row}, position ${position}`)
          })
          if (position + 1 < shortest)
            await decoding.step(Int32Array.from(rows, (row) => row[position + 1] ?? 0))
        }
        decoding.close()
        const whole = await policy.startDecoding(rows)
        rows.forEach((tokens, row) => {
          const seen = whole.logits.subarray(row * vocabSize, (row + 1) * vocabSize)
          assertClose(seen, expectedLogits(row, tokens.length - 1), tolerance, `prefill of row ${row}`)
        })
        whole.close()
      }))

    it('log-probabilities of the training forward are the reference’s', () =>
      withPolicy(async (policy) => {
        const batch = batchOf(rows, 1)
        const { logps } = await policy.logprobs(batch, { temperature: 1, adapter: true })
        const expected = golden.floats('token_logprobs')
        rows.forEach((tokens, row) => {
          const at = row * batch.completionLength
          assertClose(
            logps.subarray(at, at + tokens.length - 1),
            expected.subarray(row * (width - 1), row * (width - 1) + tokens.length - 1),
            2 * tolerance,
            `row ${row}`,
          )
        })
      }))

    it('greedy generation gives the same ids, for rows of different length in one batch', () =>
      withPolicy(async (policy) => {
        const steps = golden.shape('greedy_ids')[1] ?? 0
        const decoding: Decoding = await policy.startDecoding(rows)
        const ids = new Int32Array(rows.length * steps)
        for (let step = 0; step < steps; step++) {
          const next = argmaxRows(decoding.logits, rows.length)
          next.forEach((id, row) => (ids[row * steps + step] = id))
          if (step + 1 < steps) await decoding.step(next)
        }
        decoding.close()
        assert.deepEqual([...ids], [...golden.ints('greedy_ids')])
      }))
  })
