/** What tests of the loss share: one small GSPO loss, and the distance between two lists of numbers. */
import assert from 'node:assert/strict'
import type { LossConfig } from '../src/policy.ts'

/** GSPO as in its paper, without KL, over completions of five tokens. */
export const SEQUENCE_LOSS: LossConfig = {
  importance_sampling_level: 'sequence',
  loss_type: 'grpo',
  epsilon: 3e-4,
  epsilon_high: 4e-4,
  beta: 0,
  use_bias_correction_kl: false,
  temperature: 1,
  max_completion_length: 5,
  router_aux_loss_coef: 0,
}

/** Largest difference of two lists, which must be as long. */
export function worst(seen: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.equal(seen.length, expected.length)
  let most = 0
  for (let i = 0; i < seen.length; i++)
    most = Math.max(most, Math.abs((seen[i] ?? NaN) - (expected[i] ?? NaN)))
  return most
}
