/** The configuration: defaults, and refusals that name the key. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { gspoConfigSchema, resolveConfig } from '../src/config.ts'

const minimal = { model: 'm', dataset: 'd.jsonl' }
const refuses = (extra: object, message: RegExp): void =>
  assert.throws(() => resolveConfig({ ...minimal, ...extra }), { code: 'BAD_CONFIG', message })

describe('resolveConfig', () => {
  it("fills in the paper's clip range, sequence ratios and no KL", () => {
    const config = resolveConfig(minimal)
    // GSPO, arXiv 2507.18071, section 5.1.
    assert.deepEqual([config.epsilon, config.epsilon_high, config.beta], [3e-4, 4e-4, 0])
    assert.deepEqual([config.importance_sampling_level, config.loss_type], ['sequence', 'grpo'])
    assert.deepEqual(
      config.rewards.map((reward) => ('name' in reward ? reward.name : reward.module)),
      ['exact_match'],
    )
  })
  it('names an unknown key', () => refuses({ learning_rat: 1 }, /learning_rat/))
  it('names a missing model', () =>
    assert.throws(() => resolveConfig({ dataset: 'd' }), { code: 'BAD_CONFIG', message: /model/ }))
  it('refuses a group of one', () => refuses({ group_size: 1 }, /group_size/))
  it('takes num_generations for group_size, and not two sizes', () => {
    assert.equal(resolveConfig({ ...minimal, num_generations: 4 }).group_size, 4)
    assert.equal(resolveConfig({ ...minimal, num_generations: 4, group_size: 4 }).group_size, 4)
    refuses({ num_generations: 4, group_size: 8 }, /group_size is 8 and num_generations.* is 4/)
    refuses({ num_generations: 1 }, /group_size/)
  })
  it('refuses minibatches that do not divide the rollout', () =>
    refuses(
      { prompts_per_step: 2, group_size: 4, steps_per_generation: 3 },
      /8 completions cannot be split into steps_per_generation = 3/,
    ))
  it('refuses a deadline that a timer cannot wait for: it would be over at once', () => {
    refuses(
      { rewards: [{ module: 'r.ts', timeout_ms: 2 ** 31 }] },
      /<=2147483647\n.*rewards\[0\]\.timeout_ms/,
    )
  })
  it('wants an epsilon_high of its own for cispo, which cuts ratios at it and not at 1 more', () => {
    refuses({ loss_type: 'cispo' }, /epsilon_high itself, which is 0\.0004/)
    assert.equal(resolveConfig({ ...minimal, loss_type: 'cispo', epsilon_high: 5 }).epsilon_high, 5)
  })
  it('wants max_steps for a schedule that ends', () =>
    refuses({ lr_scheduler_type: 'cosine' }, /needs max_steps/))
  it('refuses an unknown reward and a reward option that does not exist', () => {
    refuses({ rewards: [{ name: 'exact' }] }, /name: .*'exact_match' \| 'numeric' .*\n.*rewards\[0\]/)
    refuses({ rewards: [{ name: 'exact_match', tolerance: 1 }] }, /Unrecognized key: "tolerance"/)
    refuses({ rewards: [{ name: 'length', max_tokens: 4 }] }, /soft_tokens: .*expected number/)
    refuses({ rewards: [{ module: 3 }] }, /module: .*expected string/)
    refuses({ rewards: ['exact_match'] }, /expected object, received string/)
  })
  it('describes every key, for the documentation made from it', () => {
    for (const [key, schema] of Object.entries(gspoConfigSchema.shape)) assert.ok(schema.description, key)
  })
})
