/** The router's load-balancing loss over micro-batches, on the mixture-of-experts checkpoint of the goldens. */
import assert from 'node:assert/strict'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { resolveConfig } from '../src/config.ts'
import { LossSums, minibatchGradient, tokensPerUpdate, type LossRow } from '../src/minibatch.ts'
import { loadPolicy, type LossBatch, type LossConfig, type Policy } from '../src/policy.ts'
import { buildTokenBatch } from '../src/rollout/token-batch.ts'

const COEFFICIENT = 0.5

/** Four rows of unequal length; 24 tokens to a micro-batch cut them in two after the second. */
const ROWS: readonly LossRow[] = [7, 5, 3, 2].map((length, row) => ({
  promptIds: Int32Array.from({ length: 5 }, (_, i) => 10 + row * 40 + i),
  tokens: Int32Array.from({ length }, (_, i) => 200 + row * 31 + 3 * i),
  advantage: [1, -1, 0.5, -0.5][row] ?? 0,
  masked: false,
  oldLogps: null,
  refLogps: null,
}))

describe('the load-balancing loss of a minibatch', () => {
  let policy: Policy
  before(async () => {
    policy = await loadPolicy({
      modelDir: path.join(import.meta.dirname, '../../../test/golden/models/qwen3-moe'),
      lora: { rank: 2, alpha: 4, targets: ['q_proj', 'v_proj'], useRslora: false },
      engine: 'auto',
      threads: 1,
    })
    policy.setAdapter(policy.initialAdapter(1).map((value, i) => (value === 0 ? 0.05 * Math.sin(i) : value)))
  })
  after(() => policy.close())

  const gradientOf = async (rows: readonly LossRow[], loss: LossConfig): Promise<Float32Array> => {
    const batch: LossBatch = {
      ...buildTokenBatch(rows, policy.model.padTokenId),
      advantages: Float32Array.from(rows, ({ advantage }) => advantage),
      oldLogps: null,
      refLogps: null,
    }
    return (await policy.lossAndGradient(batch, loss)).gradient
  }

  for (const lossType of ['grpo', 'dapo', 'bnpo'] as const)
    it(`${lossType}: is the mean over micro-batches by rows, as TRL's under gradient accumulation`, async () => {
      const config = resolveConfig({
        model: 'unused',
        dataset: 'unused',
        loss_type: lossType,
        router_aux_loss_coef: COEFFICIENT,
        micro_batch_tokens: 24,
      })
      const run = async (coefficient: number): Promise<Float32Array> =>
        (
          await minibatchGradient(
            policy,
            ROWS,
            { ...config, router_aux_loss_coef: coefficient },
            tokensPerUpdate(ROWS, 1),
            new LossSums(),
            new AbortController().signal,
          )
        ).gradient
      const [balanced, plain] = [await run(COEFFICIENT), await run(0)]

      // By hand: what the balancing loss adds to each half alone, halved.
      const expected = new Float32Array(plain.length)
      for (const part of [ROWS.slice(0, 2), ROWS.slice(2)]) {
        const loss = (coefficient: number): LossConfig => ({ ...config, router_aux_loss_coef: coefficient })
        const [own, without] = [await gradientOf(part, loss(COEFFICIENT)), await gradientOf(part, loss(0))]
        own.forEach((value, i) => (expected[i] += (value - (without[i] ?? NaN)) / 2))
      }
      const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
      assert.ok(largest > 1e-3, 'the balancing loss has a gradient')
      balanced.forEach((value, i) => {
        const added = value - (plain[i] ?? NaN)
        assert.ok(Math.abs(added - (expected[i] ?? NaN)) <= 2e-3 * largest, `${i}: ${added}, ${expected[i]}`)
      })
    })
})
