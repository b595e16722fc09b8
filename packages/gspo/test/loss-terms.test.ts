/** What counts as clipped, by hand: TRL logs clip ratios of the clipped losses, of cispo another, of sapo none. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { lossMetrics } from '../src/loss-terms.ts'
import type { LossBatch, LossConfig } from '../src/policy-types.ts'

const CONFIG: LossConfig = {
  importance_sampling_level: 'token',
  loss_type: 'grpo',
  epsilon: 0.2,
  epsilon_high: 0.3,
  beta: 0,
  use_bias_correction_kl: true,
  temperature: 1,
  max_completion_length: 4,
  router_aux_loss_coef: 0,
}

/** Ratios of 0.5, 1.1, 1.4 and 6 in each of two rows, with advantages 1 and -1. */
const RATIOS = [0.5, 1.1, 1.4, 6]
const BATCH: LossBatch = {
  rows: 2,
  promptLength: 1,
  completionLength: 4,
  promptIds: new Int32Array(2),
  promptMask: new Int32Array(2).fill(1),
  completionIds: new Int32Array(8),
  completionMask: new Int32Array(8).fill(1),
  advantages: Float32Array.of(1, -1),
  oldLogps: new Float32Array(8).fill(-1),
  refLogps: null,
}
const SCORES = {
  logps: Float32Array.from([...RATIOS, ...RATIOS], (ratio) => Math.log(ratio) - 1),
  entropies: new Float32Array(8),
}

describe('clip ratios', () => {
  const clipped = (changes: Partial<LossConfig>): number[] => {
    const { clipRatioLow, clipRatioHigh } = lossMetrics(BATCH, { ...CONFIG, ...changes }, SCORES)
    return [clipRatioLow, clipRatioHigh]
  }
  it('count what leaves 1 - epsilon to 1 + epsilon_high on the side that the advantage pulls to', () => {
    assert.deepEqual(clipped({}), [1 / 8, 2 / 8])
  })
  it('of cispo count ratios above epsilon_high itself, where it clamps them', () => {
    assert.deepEqual(clipped({ loss_type: 'cispo', epsilon_high: 5 }), [0, 1 / 8])
  })
  it('of sapo, which clips nothing, are 0', () => {
    assert.deepEqual(clipped({ loss_type: 'sapo' }), [0, 0])
  })
})
