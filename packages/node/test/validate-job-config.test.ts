/** A trace tells a job's settings and nothing of the machine; a replay takes the job's, never the stranger's. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { resolveConfig } from '@gym-node/gspo'
import { configDifferences, publicConfig, replayConfigOf } from '../src/validate/job-config.ts'

const job = resolveConfig({
  model: '/models/here/arith',
  dataset: ['/data/private/a.jsonl', '/data/b.jsonl'],
  rewards: [
    { name: 'http', url: 'https://rewards.example/score', headers: { authorization: 'Bearer secret' } },
    { module: '/home/me/reward.ts' },
  ],
})

describe('the configuration in a trace', () => {
  it('holds names instead of paths, and no HTTP headers', () => {
    const text = JSON.stringify(publicConfig(job))
    for (const secret of ['secret', '/models', '/data', '/home']) assert.ok(!text.includes(secret), secret)
    assert.deepEqual(publicConfig(job).dataset, ['a.jsonl', 'b.jsonl'])
    assert.deepEqual(configDifferences(job, resolveConfig(publicConfig(job))), [], "it is still the job's")
  })

  it('differs from the job in what a job shares, not in what a machine chooses', () => {
    const machine = { model: '/x/arith', threads: 7, seed: 99, micro_batch_tokens: 64, max_decoding_rows: 3 }
    assert.deepEqual(configDifferences(job, { ...job, ...machine }), [])
    const cheat = { ...job, learning_rate: 1, epsilon: 0.5 }
    assert.deepEqual(configDifferences(job, cheat), [
      `epsilon is 0.5, the job has ${job.epsilon}`,
      `learning_rate is 1, the job has ${job.learning_rate}`,
    ])
    const [http, module] = job.rewards
    assert.ok(http !== undefined && module !== undefined)
    const weighted = { ...job, rewards: [{ ...http, weight: 5 }, module] as typeof job.rewards }
    assert.match(configDifferences(job, weighted).join(), /^rewards is .*"weight":5/)
    const turned = { ...job, lora_targets: [...job.lora_targets].reverse() }
    assert.deepEqual(configDifferences(job, turned), [], 'the order of targets means nothing')
  })

  it('decides nothing in a replay but seed and batching, within limits', () => {
    const stranger = resolveConfig({
      model: 'evil',
      dataset: 'evil.jsonl',
      rewards: [{ module: 'evil.ts' }],
      seed: 5,
      micro_batch_tokens: 1e9,
      max_decoding_rows: 1e9,
    })
    const replayed = replayConfigOf(job, stranger)
    assert.deepEqual(replayed, { ...job, micro_batch_tokens: 16_384, max_decoding_rows: 1_024 })
    assert.equal(replayConfigOf(job, { ...stranger, micro_batch_tokens: 48 }).micro_batch_tokens, 48)
  })
})
