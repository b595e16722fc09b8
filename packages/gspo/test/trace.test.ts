/** Trace files: exact round trips, torn tails, and hostile bytes. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { checkTrace } from '../src/trace/check.ts'
import { zstdCompressSync } from 'node:zlib'
import { decodeTrace, encodeTrace, TraceEncoder, TraceScanner } from '../src/trace/codec.ts'
import type { TraceHeader } from '../src/trace/codec.ts'
import { STREAM, uniform } from '../src/sampling/philox.ts'
import type { StepTrace, TracedCompletion } from '../src/trace/types.ts'

const header: TraceHeader = {
  version: 2,
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
const steps = [step, { ...step, step: 4 }]
const file = encodeTrace(header, steps)
/** Bytes of the file up to the end of header, first and second step. */
const ends = [0, 1, 2].map((count) => encodeTrace(header, steps.slice(0, count)).length)

/** The frame as docs/VALIDATION.md says it, apart from the codec: what a stranger would write. */
function forge(...payloads: Uint8Array[]): Uint8Array {
  const sha3 = (...parts: Uint8Array[]): Buffer => {
    const hash = createHash('sha3-256')
    for (const part of parts) hash.update(part)
    return hash.digest().subarray(0, 16)
  }
  const parts: Uint8Array[] = [Buffer.from('GYMTRACE')]
  let link = sha3(Buffer.from('GYMTRACE'))
  for (const payload of payloads) {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(payload.length)
    link = sha3(link, length, payload)
    parts.push(length, payload, link)
  }
  return Buffer.concat(parts)
}
const headerPayload = Buffer.concat([Buffer.of(0), Buffer.from(JSON.stringify(header))])
const stepPayload = (plain: Uint8Array): Uint8Array => Buffer.concat([Buffer.of(1), zstdCompressSync(plain)])

describe('trace codec', () => {
  it('gives back header and steps exactly, to the bit of every float', () => {
    assert.deepEqual(decodeTrace(file), { header, steps, truncated: false })
  })
  it('writes the documented frame, piece by piece as at once', () => {
    assert.deepEqual(Buffer.from(encodeTrace(header, [])), forge(headerPayload))
    const encoder = new TraceEncoder(header)
    const pieces = [encoder.start, ...steps.map((each) => encoder.step(each))]
    assert.deepEqual(Buffer.concat(pieces), Buffer.from(file))
  })
  it('reads in pieces of any size what it reads at once, and goes on writing where it ended', () => {
    for (const size of [1, 7, 64, file.length]) {
      const scanner = new TraceScanner()
      const read: StepTrace[] = []
      for (let at = 0; at < ends[1]; at += size)
        read.push(...scanner.push(file.subarray(at, Math.min(at + size, ends[1]))))
      assert.deepEqual([read, scanner.header, scanner.wholeBytes], [[step], header, ends[1]])
      const goesOn = new TraceEncoder(header, scanner.link)
      assert.deepEqual(Buffer.concat([file.subarray(0, ends[1]), goesOn.step(steps[1])]), Buffer.from(file))
    }
  })
  it('recognises a tail torn at any byte and keeps the whole records', () => {
    for (let length = ends[1] + 1; length < file.length; length++) {
      const decoded = decodeTrace(file.subarray(0, length))
      assert.equal(decoded.truncated, true)
      assert.deepEqual(decoded.steps, [step])
    }
  })
  it('refuses a flipped byte anywhere, and never yields a changed step', () => {
    fc.assert(
      fc.property(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), (place, flip) => {
        const bad = Buffer.from(file)
        bad[place] = (bad[place] ?? 0) ^ flip
        try {
          // A flipped length can make the rest look torn.
          const decoded = decodeTrace(bad)
          assert.equal(decoded.truncated, true)
          for (const [index, decodedStep] of decoded.steps.entries())
            assert.deepEqual(decodedStep, { ...step, step: 3 + index })
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'BAD_TRACE')
        }
      }),
      { seed: 1, numRuns: 400 },
    )
  })
  it('refuses a whole record of another file or another place', () => {
    const other = encodeTrace({ ...header, round: 8 }, steps)
    const swapped = Buffer.concat([file.subarray(0, ends[0]), other.subarray(ends[0])])
    assert.throws(() => decodeTrace(swapped), { code: 'BAD_TRACE', message: /does not carry the link/ })
    const shifted = Buffer.concat([file.subarray(0, ends[0]), file.subarray(ends[1])])
    assert.throws(() => decodeTrace(shifted), { code: 'BAD_TRACE', message: /does not carry the link/ })
  })
  it('never allocates for a count that the bytes cannot hold', () => {
    const liar = stepPayload(Buffer.from([1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f]))
    assert.throws(() => decodeTrace(forge(headerPayload, liar)), {
      code: 'BAD_TRACE',
      message: /says \d+ groups, but only 0 bytes follow/,
    })
    const endless = Buffer.concat([file.subarray(0, ends[0]), Buffer.from([0xff, 0xff, 0xff, 0xff, 0])])
    assert.throws(() => decodeTrace(endless), { code: 'BAD_TRACE', message: /4294967295 bytes, limit/ })
  })
  it('does not unpack a bomb, nor more samples than its limit', () => {
    const bomb = stepPayload(Buffer.alloc(2 ** 20))
    assert.throws(() => decodeTrace(forge(headerPayload, bomb), { maxBytes: 2 ** 16 }), {
      code: 'BAD_TRACE',
      message: /does not unpack into 65536 bytes/,
    })
    // Step, seed, a group: position, no prompt, two million empty completions of three bytes.
    const count = [0x80, 0x89, 0x7a]
    const many = Buffer.concat([Buffer.from([1, 1, 1, 0, 0, ...count]), Buffer.alloc(6_000_000)])
    assert.throws(() => decodeTrace(forge(headerPayload, stepPayload(many))), {
      code: 'BAD_TRACE',
      message: /2000000 completions more, its reader takes 999999/,
    })
  })
  it('takes under 8 bytes a sampled token for short answers of three tokens', () => {
    // Numbers without pattern: what compression could win on repeated ones does not count.
    const draw = (...place: [number, number, number]): number => uniform(7, STREAM.sample, ...place)
    const bytes = new TraceEncoder(header).step({
      step: 1,
      seed: 0,
      groups: Array.from({ length: 16 }, (_group, g) => ({
        dataPosition: g,
        promptIds: Int32Array.from({ length: 6 }, (_id, i) => 48 + Math.floor(10 * draw(g, 99, i))),
        completions: Array.from({ length: 8 }, (_completion, c) => ({
          tokens: Int32Array.from({ length: 3 }, (_id, i) => 48 + Math.floor(10 * draw(g, c, i))),
          logps: Float32Array.from({ length: 3 }, (_logp, i) => Math.log(draw(g, c, 9 + i))),
          finish: 'length' as const,
          reward: draw(g, c, 20) < 0.5 ? 0 : 1,
          components: [1],
        })),
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
