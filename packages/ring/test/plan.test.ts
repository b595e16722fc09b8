/** The plan against a simulated ring of sets: who has whose parts after each move. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { encodedBytes } from '../src/kernels/chunk-memory.ts'
import {
  chunkElements,
  chunkSpans,
  maxChunkElements,
  receiveSteps,
  segmentOwner,
  segmentSpan,
  sendSteps,
} from '../src/plan.ts'

describe('segments', () => {
  it('cover every element once, in order, with sizes that differ by at most one', () => {
    for (const [length, count] of [
      [0, 3],
      [1, 3],
      [2, 5],
      [10, 3],
      [4096, 7],
    ] as const) {
      const spans = Array.from({ length: count }, (_, i) => segmentSpan(length, count, i))
      assert.equal(spans[0]?.start, 0)
      assert.equal(spans.at(-1)?.end, length)
      const sizes = spans.map((span) => span.end - span.start)
      assert.ok(Math.max(...sizes) - Math.min(...sizes) <= 1)
      for (let i = 1; i < count; i++) assert.equal(spans[i]?.start, spans[i - 1]?.end)
    }
  })

  it('are cut into chunks that cover them', () => {
    assert.deepEqual(chunkSpans({ start: 3, end: 10 }, 4), [
      { start: 3, end: 7 },
      { start: 7, end: 10 },
    ])
    assert.deepEqual(chunkSpans({ start: 3, end: 3 }, 4), [])
  })
})

describe('the moves of N nodes', () => {
  for (const count of [2, 3, 4, 7]) {
    it(`leave ${count} nodes with everybody's part of every element, each added once`, () => {
      const length = 3 * count + 1
      // parts[node][element] = which nodes' contributions are summed there.
      const parts = Array.from({ length: count }, (_, node) => Array.from({ length }, () => new Set([node])))
      const sends = Array.from({ length: count }, (_, node) => sendSteps(length, count, node, 2))
      for (let move = 0; move < 2 * (count - 1); move++) {
        const before = parts.map((row) => row.map((set) => new Set(set)))
        for (let node = 0; node < count; node++) {
          const from = (node - 1 + count) % count
          const received = receiveSteps(length, count, node, 2).filter((step) => step.move === move)
          assert.deepEqual(
            received,
            sends[from]?.filter((step) => step.move === move),
          )
          for (const { span, reduce, finish, segment } of received) {
            for (let k = span.start; k < span.end; k++) {
              const incoming = before[from]?.[k] ?? new Set()
              const own = reduce ? (before[node]?.[k] ?? new Set()) : new Set<number>()
              for (const n of incoming) assert.ok(!own.has(n), 'nobody is added twice')
              const row = parts[node]
              assert.ok(row)
              row[k] = new Set([...incoming, ...own])
            }
            if (finish) assert.equal(segmentOwner(segment, count), node)
          }
        }
      }
      for (const row of parts) for (const set of row) assert.equal(set.size, count)
    })
  }
})

describe('chunks', () => {
  const MiB = 1024 * 1024

  it('hold as many bytes of every wire type at most, and in f32 always', () => {
    assert.equal(maxChunkElements('f32', MiB), 262_144)
    assert.equal(maxChunkElements('bf16', MiB), 524_288)
    assert.equal(maxChunkElements('int8', MiB), 524_288)
    for (const wire of ['f32', 'bf16', 'int8'] as const) {
      assert.ok(encodedBytes(wire, maxChunkElements(wire, MiB)) <= MiB)
    }
    assert.equal(chunkElements('f32', MiB, 2 ** 30, 2), 262_144)
  })

  it('are long where a segment has four long ones, and short below', () => {
    for (const wire of ['bf16', 'int8'] as const) {
      assert.equal(chunkElements(wire, MiB, 4 * 4 * 524_288, 4), 524_288)
      assert.equal(chunkElements(wire, MiB, 4 * 4 * 524_288 - 1, 4), 262_144)
    }
  })
})
