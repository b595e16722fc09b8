/** Exchanges over sealed links in memory: the mean bit for bit at any shape, and what an aborted one leaves alone. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { RingError } from '../src/index.ts'
import { segmentSpan } from '../src/plan.ts'
import { runRing, type PipeEnd } from './exchange-rig.ts'
import { Random } from './sim/random.ts'

const WIRES = ['f32', 'bf16', 'int8'] as const
const bits = (values: Float32Array): Buffer =>
  Buffer.from(values.buffer, values.byteOffset, values.byteLength)

/** sum(w v) / sum(w), every product and sum rounded to float32, segment by segment in the order the ring adds. */
function meanInRingOrder(vectors: readonly Float32Array[], weights: readonly number[]): Float32Array {
  const { length } = vectors[0]
  const count = vectors.length
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const mean = new Float32Array(length)
  for (let segment = 0; segment < count; segment++) {
    const { start, end } = segmentSpan(length, count, segment)
    for (let i = start; i < end; i++) {
      let sum = Math.fround(vectors[segment][i] * Math.fround(weights[segment]))
      for (let hop = 1; hop < count; hop++) {
        const member = (segment + hop) % count
        sum = Math.fround(sum + Math.fround(vectors[member][i] * Math.fround(weights[member])))
      }
      mean[i] = total === 0 ? 0 : sum / Math.fround(total)
    }
  }
  return mean
}

/** Pieces of any size, and now and then a full pipe: whatever a network may do to a stream. */
function shaken(random: Random): (sender: number, end: PipeEnd) => void {
  return (_, end) => {
    end.isFull = random.below(2) === 0
    end.cut = (bytes) => {
      const at = random.below(bytes.byteLength + 1)
      return at === 0 ? [bytes] : [bytes.subarray(0, at), bytes.subarray(at)]
    }
  }
}

describe('an exchange', () => {
  for (const wire of WIRES) {
    it(`${wire}: gives every member the same bits, whatever the shape, the weights, the lanes and the pieces`, async () => {
      const random = new Random(21)
      for (let run = 0; run < 25; run++) {
        const count = 2 + random.below(4)
        // Zero, fewer than members, odd, and across several chunks.
        const length = [0, 1, count - 1, 17, 255, 256, 300 + random.below(900)][random.below(7)] ?? 0
        const vectors = Array.from({ length: count }, () =>
          Float32Array.from({ length }, () => random.between(-5, 5)),
        )
        const weights = vectors.map(() => (run % 3 === 0 ? 1 : Math.fround(random.between(0, 3))))
        const before = vectors.map((vector) => vector.slice())
        const what = `run ${run}: ${count} members, ${length} elements`
        const outcomes = await runRing({
          vectors,
          weights,
          wire,
          integrity: run % 5 === 0 ? 'signed' : 'sealed',
          lanes: 1 + random.below(3),
          chunkBytes: [64, 256, 2048][random.below(3)] ?? 64,
          onPipe: shaken(random),
        })
        for (const { error, name, result } of outcomes) {
          assert.equal(error, null, what)
          assert.equal(name, outcomes[0].name, `${what}: one name`)
          assert.deepEqual(bits(result), bits(outcomes[0].result), `${what}: one result`)
        }
        const expected = meanInRingOrder(vectors, weights)
        if (wire === 'f32') assert.deepEqual(bits(outcomes[0].result), bits(expected), what)
        else {
          // Rounded once per hop and once at the end, each by at most half a step of the block's largest value.
          const step = wire === 'bf16' ? 2 ** -8 : 2 ** -6
          outcomes[0].result.forEach((x, i) => {
            assert.ok(Math.abs(x - expected[i]) <= 5 * 3 * count * step, `${what}: element ${i}`)
          })
        }
        assert.deepEqual(vectors, before, `${what}: inputs are only read`)
      }
    })
  }

  it('int8: chunks of a single value, longer on the wire than in memory, may wait like any other', async () => {
    // Segments of 17 values in chunks of 16: the second of each is one value and its scale. Every send asks for a pause.
    const vectors = [1, 2, 3].map((x) => new Float32Array(51).fill(x))
    const outcomes = await runRing({
      vectors,
      wire: 'int8',
      chunkBytes: 64,
      onPipe: (_, end) => {
        end.isFull = true
      },
    })
    for (const { error, result } of outcomes) {
      assert.equal(error, null)
      assert.deepEqual(result, new Float32Array(51).fill(2))
    }
  })

  it('that is aborted at any frame touches neither vector nor result afterwards', async () => {
    const random = new Random(4)
    for (let run = 0; run < 20; run++) {
      const vectors = Array.from({ length: 3 }, () => Float32Array.from({ length: 700 }, (_, i) => i + run))
      const before = vectors.map((vector) => vector.slice())
      const stop = new AbortController()
      let left = random.below(40)
      const outcomes = await runRing({
        vectors,
        signal: stop.signal,
        lanes: 1 + (run % 2),
        onPipe: (_, end) => {
          end.cut = (bytes) => {
            if (left-- === 0) stop.abort(new RingError('STOPPED', 'the test has seen enough'))
            return [bytes]
          }
        },
      })
      assert.ok(outcomes.every(({ error }) => error?.code === 'STOPPED'))
      const after = outcomes.map(({ result }) => result.slice())
      // Everything still in the pipes is delivered now.
      for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate)
      outcomes.forEach(({ result }, i) => assert.deepEqual(bits(result), bits(after[i])))
      assert.deepEqual(vectors, before)
    }
  })

  it('keeps nothing of a round on the links it ran over', async () => {
    const counts: (() => number)[] = []
    await runRing({
      vectors: [new Float32Array(100), new Float32Array(100)],
      onPipe: (_, end) => {
        let subscribed = 0
        const onEnd = end.onEnd.bind(end)
        end.onEnd = (handler) => {
          subscribed += 1
          const forget = onEnd(handler)
          return () => {
            subscribed -= 1
            forget()
          }
        }
        counts.push(() => subscribed)
      },
    })
    // One from the link and one from the lanes, for as long as the link lives.
    assert.deepEqual(
      counts.map((count) => count()),
      counts.map(() => 2),
    )
  })
})
