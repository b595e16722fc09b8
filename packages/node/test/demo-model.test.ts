/**
 * The shipped demo model is what its log says, and its data are what the script makes. That training makes its bits is
 * for `npm run make:arith-model -- --check`, which takes a minute.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { createTrainer } from '@gym-node/gspo'
import { ARITH, createExaminer, TRL_SETTING } from '../../../bench/lib/arith.ts'
import { arithData } from '../../../bench/lib/arith-data.ts'

describe('the demo model', async () => {
  const read = (name: string): Promise<string> => readFile(join(ARITH.model, name), 'utf8')
  const log = JSON.parse(await read('training-log.json')) as Record<'sampled' | 'greedy', number> & {
    model_sha256: string
  }

  it('has the weights and the held-out accuracy that its log records', async () => {
    const bytes = await readFile(join(ARITH.model, 'model.safetensors'))
    assert.equal(createHash('sha256').update(bytes).digest('hex'), log.model_sha256)
    const trainer = await createTrainer({ ...TRL_SETTING, model: ARITH.model })
    const examiner = await createExaminer(ARITH.model)
    try {
      const sampled = await examiner.expectedAccuracy(new Float32Array(trainer.info.trainable))
      // The log has four digits.
      assert.ok(Math.abs(sampled - log.sampled) < 1e-4, String(sampled))
      const { accuracy } = await trainer.evaluate({ dataset: ARITH.test, mode: 'greedy' })
      assert.equal(accuracy, log.greedy)
    } finally {
      await examiner.close()
      await trainer.close()
    }
  })

  it('has the data that Python shuffles: every sum once, 1,000 of 10,000 held out', async () => {
    const { 'train.jsonl': train, 'test.jsonl': test } = arithData()
    assert.equal(await read('train.jsonl'), train)
    assert.equal(await read('test.jsonl'), test)
    const rows = `${test}${train}`.trimEnd().split('\n')
    assert.equal(new Set(rows).size, 10_000)
    // random.Random(1234).shuffle of all pairs in CPython 3.11 begins so.
    assert.deepEqual(rows.slice(0, 2), [
      '{"prompt": "13+54=", "answer": "67"}',
      '{"prompt": "26+16=", "answer": "42"}',
    ])
  })
})
