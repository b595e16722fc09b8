/** An adapter that TRL and PEFT trained, loaded here, against what transformers computed with it (golden arith). */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createExaminer } from '../../../bench/lib/arith.ts'
import { createTrainer } from '../src/trainer.ts'
import { ARITH, GOLDEN_ARITH } from './arith.ts'

interface GoldenRates {
  readonly expected_exact_match_T1: number
  readonly greedy_exact_match: number
}

const file = new URL('../../../test/golden/arith/arith.json', import.meta.url)
const golden = JSON.parse(readFileSync(file, 'utf8')) as {
  base: GoldenRates
  adapter_trl_gspo_500steps: GoldenRates
}
const adapter = fileURLToPath(
  new URL('../../../test/golden/arith/adapter-trl-gspo-500steps', import.meta.url),
)

describe('an adapter trained by TRL', () => {
  it('has the accuracy here that it has in transformers, greedy and by exact probability', async () => {
    const trainer = await createTrainer({
      model: GOLDEN_ARITH,
      dataset: ARITH.train,
      adapter,
      max_completion_length: 6,
      threads: 1,
    })
    const examiner = await createExaminer(GOLDEN_ARITH)
    try {
      const { accuracy } = await trainer.evaluate({ dataset: ARITH.test, mode: 'greedy' })
      assert.equal(accuracy, golden.adapter_trl_gspo_500steps.greedy_exact_match)
      const expected = await examiner.expectedAccuracy(await trainer.readAdapter())
      // Logits agree to 1e-4 or better; a rate averages over 1000 rows.
      assert.ok(
        Math.abs(expected - golden.adapter_trl_gspo_500steps.expected_exact_match_T1) < 1e-4,
        String(expected),
      )
      const base = await examiner.expectedAccuracy(new Float32Array(trainer.info.trainable))
      assert.ok(Math.abs(base - golden.base.expected_exact_match_T1) < 1e-4, String(base))
    } finally {
      await examiner.close()
      await trainer.close()
    }
  })
})

describe('learning', () => {
  it("reaches after 3200 completions what TRL's three seeds reach", async () => {
    // TRL on policy at step 25: 0.3882, 0.3772, 0.3863 from 0.3513 (golden arith, trl-curves.json).
    const trainer = await createTrainer({
      model: GOLDEN_ARITH,
      dataset: ARITH.train,
      prompts_per_step: 16,
      group_size: 8,
      max_completion_length: 6,
      learning_rate: 5e-4,
      threads: 1,
    })
    const examiner = await createExaminer(GOLDEN_ARITH)
    try {
      for (let step = 0; step < 25; step++) await trainer.step()
      const accuracy = await examiner.expectedAccuracy(await trainer.readAdapter())
      assert.ok(accuracy > 0.37, String(accuracy))
    } finally {
      await examiner.close()
      await trainer.close()
    }
  })
})
