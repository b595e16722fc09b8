/** Error feedback: nothing is lost over rounds, nothing is remembered before a commit. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ErrorFeedback, decodeDeltaBuffer, encodeDeltaToBuffer, roundTripTensor } from '@gym-node/wire'
import { SAMPLE_METADATA, normals } from './samples.ts'

const TENSORS = [
  { name: 'a', shape: [16, 64] },
  { name: 'b', shape: [64, 16] },
]
const LENGTH = 2048
const norm = (v: Float32Array): number => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0))
const add = (to: Float32Array, v: Float32Array): void => v.forEach((x, i) => (to[i] = (to[i] ?? 0) + x))
const subtract = (a: Float32Array, b: Float32Array): Float32Array => a.map((x, i) => x - (b[i] ?? 0))

describe('ErrorFeedback', () => {
  it('sends over forty rounds what the deltas sum to, where plain bitdelta does not', () => {
    const feedback = new ErrorFeedback('bitdelta', TENSORS)
    const [wanted, sent, plain] = [
      new Float32Array(LENGTH),
      new Float32Array(LENGTH),
      new Float32Array(LENGTH),
    ]
    const trend = normals(LENGTH, 99)
    for (let round = 0; round < 40; round++) {
      const delta = normals(LENGTH, round).map((x, i) => x + (trend[i] ?? 0))
      add(wanted, delta)
      const prepared = feedback.prepare(delta)
      add(sent, prepared.sent)
      feedback.commit(prepared)
      add(plain, new ErrorFeedback('bitdelta', TENSORS).prepare(delta).sent)
    }
    // Exact bookkeeping: what was sent and what is left over is what was wanted, but for float32 rounding.
    assert.ok(norm(subtract(subtract(wanted, sent), feedback.residual)) / norm(wanted) < 1e-5)
    const withFeedback = norm(subtract(wanted, sent)) / norm(wanted)
    const without = norm(subtract(wanted, plain)) / norm(wanted)
    assert.ok(withFeedback < 0.1 && without > 3 * withFeedback, `with ${withFeedback}, without ${without}`)
  })

  it('prepares the same round again until it is committed, and leaves the delta untouched', () => {
    const feedback = new ErrorFeedback('i8', TENSORS)
    const delta = normals(LENGTH, 5)
    const before = Float32Array.from(delta)
    const first = feedback.prepare(delta)
    assert.deepEqual(feedback.prepare(delta).sent, first.sent)
    assert.deepEqual(delta, before)
    feedback.commit(first)
    assert.notDeepEqual(feedback.prepare(delta).sent, first.sent)
  })

  it('continues from a stored residual', () => {
    const one = new ErrorFeedback('bitdelta', TENSORS)
    one.commit(one.prepare(normals(LENGTH, 1)))
    const two = new ErrorFeedback('bitdelta', TENSORS, one.residual)
    assert.deepEqual(two.prepare(normals(LENGTH, 2)).sent, one.prepare(normals(LENGTH, 2)).sent)
  })

  it('says what a reader will see: a file of its tensors decodes to `sent`', async () => {
    const round = new ErrorFeedback('bitdelta', TENSORS).prepare(normals(LENGTH, 3))
    const file = await encodeDeltaToBuffer({
      metadata: SAMPLE_METADATA,
      tensors: round.tensors,
      compression: 'none',
    })
    const seen: number[] = []
    for await (const { values } of (await decodeDeltaBuffer(file)).tensors()) seen.push(...values)
    assert.deepEqual(Float32Array.from(seen), round.sent)
    assert.equal(round.packedBytes, 2 * (1024 / 8 + (1024 / 256) * 4))
  })

  it('loses nothing in f32 and refuses wrong lengths', () => {
    const feedback = new ErrorFeedback('f32', TENSORS)
    assert.equal(feedback.prepare(normals(LENGTH, 4)).relativeError, 0)
    assert.equal(feedback.prepare(new Float32Array(LENGTH)).relativeError, 0)
    assert.throws(() => feedback.prepare(new Float32Array(3)), { code: 'BAD_ARGUMENT' })
    assert.throws(() => new ErrorFeedback('f32', TENSORS, new Float32Array(1)), { code: 'BAD_ARGUMENT' })
    assert.throws(() => roundTripTensor('f32', [2], new Float32Array(3)), { code: 'BAD_ARGUMENT' })
  })
})
