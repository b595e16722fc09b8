/** Trace files: exact round trips, torn tails, and hostile bytes. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { checkTrace } from '../src/trace/check.ts'
import { decodeTrace, encodeTraceHeader, encodeTraceStep } from '../src/trace/codec.ts'
import type { TraceHeader } from '../src/trace/codec.ts'
import type { StepTrace, TracedCompletion } from '../src/trace/types.ts'

const header: TraceHeader = {
  version: 1,
  job: 'arith',
  workerId: '12D3KooW',
  round: 7,
  stateBefore: 'ab'.repeat(32),
  model: { id: 'arith-model', sha256: 'cd'.repeat(32) },
  dataset: { sha256: 'ef'.repeat(32), size: 9000 },
  config: { model: 'm', dataset: 'd' },
  engine: 'onnx-cpu',
  versions: { node: '24' },
}
const completion: TracedCompletion = {
  tokens: Int32Array.of(54, 55, 258),
  logps: Float32Array.of(-0.1, -3.7, -1e-4),
  finish: 'eos',
  reward: 0.3,
  components: [1, NaN, -0, 1e300],
}
const step: StepTrace = {
  step: 3,
  seed: 2 ** 40 + 1,
  groups: [
    {
      dataPosition: 5_000_000_000,
      promptIds: Int32Array.of(49, 151_000),
      completions: [completion, completion],
    },
  ],
}
const file = Buffer.concat([
  encodeTraceHeader(header),
  encodeTraceStep(step),
  encodeTraceStep({ ...step, step: 4 }),
])

describe('trace codec', () => {
  it('gives back header and steps exactly, to the bit of every float', () => {
    const decoded = decodeTrace(file)
    assert.deepEqual(decoded, { header, steps: [step, { ...step, step: 4 }], truncated: false })
  })
  it('is deterministic', () => assert.deepEqual(encodeTraceStep(step), encodeTraceStep(step)))
  it('recognises a tail torn at any byte and keeps the whole records', () => {
    const whole = encodeTraceHeader(header).length + encodeTraceStep(step).length
    for (let length = whole + 1; length < file.length; length++) {
      const decoded = decodeTrace(file.subarray(0, length))
      assert.equal(decoded.truncated, true)
      assert.equal(decoded.steps.length, 1)
    }
  })
  it('refuses a flipped byte anywhere before the last record', () => {
    const last = encodeTraceStep({ ...step, step: 4 }).length
    fc.assert(
      fc.property(fc.nat(file.length - last - 1), fc.integer({ min: 1, max: 255 }), (place, flip) => {
        const bad = Buffer.from(file)
        bad[place] = (bad[place] ?? 0) ^ flip
        try {
          // A flipped length can only make the rest look torn; it never yields a changed step.
          const decoded = decodeTrace(bad)
          assert.equal(decoded.truncated, true)
          for (const [index, decodedStep] of decoded.steps.entries())
            assert.deepEqual(decodedStep, { ...step, step: 3 + index })
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'BAD_TRACE')
        }
      }),
      { seed: 1, numRuns: 300 },
    )
  })
  it('never allocates for a count that the bytes cannot hold', () => {
    const liar = Buffer.from([1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f])
    const record = Buffer.concat([Buffer.from([liar.length, 0, 0, 0]), crcOf(liar), liar])
    assert.throws(() => decodeTrace(Buffer.concat([encodeTraceHeader(header), record])), {
      code: 'BAD_TRACE',
      message: /says \d+ groups, but only 0 bytes follow/,
    })
  })
  it('takes under 8 bytes a sampled token for short answers of three tokens', () => {
    const answers = {
      tokens: Int32Array.of(54, 55, 258),
      logps: new Float32Array(3),
      finish: 'eos',
      reward: 1,
      components: [1],
    } as const
    const bytes = encodeTraceStep({
      step: 1,
      seed: 0,
      groups: Array.from({ length: 16 }, (_, dataPosition) => ({
        dataPosition,
        promptIds: new Int32Array(6).fill(50),
        completions: new Array<typeof answers>(8).fill(answers),
      })),
    }).length
    assert.ok(bytes / (16 * 8 * 3) < 8, `${bytes / (16 * 8 * 3)} bytes a token`)
  })
})

describe('checkTrace', () => {
  const config = { prompts_per_step: 1, group_size: 2, max_completion_length: 6, stop: [] }
  const model = { vocabSize: 259, maxPositions: 256, eosTokenIds: [258] }
  const withCompletion = (change: Partial<TracedCompletion>): StepTrace => ({
    ...step,
    groups: [
      {
        dataPosition: 0,
        promptIds: Int32Array.of(49),
        completions: [completion, { ...completion, ...change }],
      },
    ],
  })
  const refuses = (trace: StepTrace, message: RegExp): void =>
    assert.throws(() => checkTrace(trace, config, model), { code: 'BAD_TRACE', message })

  it('accepts what a step could have written', () => checkTrace(withCompletion({}), config, model))
  it('refuses impossible sizes, ids, logprobs and endings', () => {
    refuses({ ...step, groups: [] }, /groups: 0, expected 1/)
    refuses(
      withCompletion({ tokens: Int32Array.of(300), logps: new Float32Array(1) }),
      /token 0 is 300, the vocabulary has 259/,
    )
    refuses(withCompletion({ tokens: new Int32Array(0), logps: new Float32Array(0) }), /has 0 tokens/)
    refuses(withCompletion({ logps: Float32Array.of(-1, NaN, -1) }), /logprob 1 is NaN/)
    refuses(withCompletion({ logps: Float32Array.of(-1, 2, -1) }), /logprob 1 is 2/)
    refuses(withCompletion({ tokens: Int32Array.of(258, 55, 258) }), /goes on after its end token/)
    refuses(withCompletion({ finish: 'length' }), /says it ended by length/)
    refuses(
      withCompletion({ tokens: Int32Array.of(54), logps: new Float32Array(1), finish: 'length' }),
      /says it was cut/,
    )
  })
})

function crcOf(bytes: Uint8Array): Buffer {
  // CRC-32 (IEEE 802.3), bit by bit: independent of the codec's own.
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  const out = Buffer.alloc(4)
  out.writeUInt32LE((crc ^ 0xffffffff) >>> 0)
  return out
}
