/** Metadata: each member is required and checked, and a message says which and how. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { JsonValue } from '@gym-node/wire'
import { checkDeltaMetadata } from '../src/delta-metadata.ts'
import { SAMPLE_METADATA } from './samples.ts'

const SAMPLE = SAMPLE_METADATA as unknown as Record<string, JsonValue>

describe('checkDeltaMetadata', () => {
  it('accepts the sample, null where null is allowed, and every optional member', () => {
    checkDeltaMetadata(SAMPLE)
    checkDeltaMetadata({ ...SAMPLE, loss: null, reward_mean: null, trace_sha3_256: null })
    checkDeltaMetadata({
      ...SAMPLE,
      content: 'adapter',
      lora: { rank: 16, alpha: 32, use_rslora: false, target_modules: ['q_proj'] },
      converted_from: 'e5'.repeat(32),
      residual: { before: null, after: 'f6'.repeat(32) },
      extra: {},
    })
  })

  it('refuses metadata that lacks any one member, naming it', () => {
    for (const member of Object.keys(SAMPLE)) {
      const rest = Object.fromEntries(Object.entries(SAMPLE).filter(([name]) => name !== member))
      assert.throws(() => checkDeltaMetadata(rest), {
        code: 'BAD_METADATA',
        message: new RegExp(`lacks ${member}`),
      })
    }
  })

  it('does not take a member from the prototype', () => {
    assert.throws(() => checkDeltaMetadata(Object.create(SAMPLE) as JsonValue), { code: 'BAD_METADATA' })
  })

  const bad: Record<string, JsonValue[]> = {
    worker_id: ['', 1, null],
    job: ['', 'x'.repeat(1025), {}],
    epoch: [-1, 0.5, 2 ** 53, '1', null],
    round: [-1],
    step_first: [64],
    timestamp: ['2026-01-31', '2026-02-31T12:00:00Z', '2026-01-31T25:00:00Z', '2026-01-31T12:00:00+01:00', 0],
    loss: ['0', true],
    base_model: [{ id: 'x' }, { id: '', sha256: 'a1'.repeat(32) }, { id: 'x', sha256: 'A1'.repeat(32) }, []],
    state_before: ['b2', 'B2'.repeat(32), null],
    trace_sha3_256: ['', 0],
    attestation: [null, {}, { type: 1 }, []],
    binding: ['a', 'YQ', '====', 1],
    content: ['delta'],
    lora: [{ rank: 16 }, { rank: -1, alpha: 1, use_rslora: false, target_modules: [] }],
    converted_from: ['x'],
    residual: [{ before: null }, { after: 'f6'.repeat(32) }, { before: 'x', after: 'f6'.repeat(32) }, null],
    extra: [1, []],
  }
  for (const [member, values] of Object.entries(bad)) {
    it(`refuses a wrong ${member}, naming it`, () => {
      for (const value of values) {
        assert.throws(
          () => checkDeltaMetadata({ ...SAMPLE, [member]: value }),
          { code: 'BAD_METADATA', message: new RegExp(member) },
          JSON.stringify(value),
        )
      }
    })
  }

  it('cuts long values out of its messages', () => {
    const long = { ...SAMPLE, state_before: 'x'.repeat(100000) }
    assert.throws(
      () => checkDeltaMetadata(long),
      (error: Error) => error.message.length < 300,
    )
  })
})
