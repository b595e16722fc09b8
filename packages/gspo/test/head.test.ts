/** The head's graph: its parts of the vocabulary, and that each waits for all of the one before. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { GraphBuilder } from '../src/graph/graph.ts'
import type { Tensor } from '../src/graph/ops.ts'
import { headScores, headScoresWithGradient, vocabularyRanges } from '../src/models/head.ts'

/** Everything that a tensor is computed from. */
function ancestors(tensor: Tensor): Set<Tensor> {
  const found = new Set<Tensor>()
  const pending = [...tensor.inputs]
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (found.has(next)) continue
    found.add(next)
    pending.push(...next.inputs)
  }
  return found
}

describe('the head’s parts', () => {
  it('are whole blocks of 64 rows that cover the vocabulary, as many as asked for at most', () => {
    assert.deepEqual(vocabularyRanges(200, 2), [
      { first: 0, end: 128 },
      { first: 128, end: 200 },
    ])
    assert.deepEqual(vocabularyRanges(50, 8), [{ first: 0, end: 50 }])
    // 151936 / 16 = 9496 rows are 149 blocks of 64: 9536.
    const parts = vocabularyRanges(151936, 16)
    assert.equal(parts.length, 16)
    assert.deepEqual([parts[1]?.first, parts.at(-1)], [9536, { first: 143040, end: 151936 }])
  })

  for (const [what, score] of [
    ['with gradient', headScoresWithGradient],
    ['without', headScores],
  ] as const)
    it(`${what}: no part begins before all that looks at the logits of the one before is done`, () => {
      const g = new GraphBuilder()
      const scores = score(g, g.input('hidden', ['N', 4]), g.input('head', [256, 4]), 4)
      const { tensors } = g.finish({ ...scores })
      const logits = tensors.filter(({ op }) => op.kind === 'matmul' && op.transB)
      assert.equal(logits.length, 4)
      for (const [part, own] of logits.entries()) {
        const before = ancestors(own)
        for (const earlier of logits.slice(0, part)) {
          const probabilities = tensors.find(
            ({ op, inputs }) => op.kind === 'softmax' && inputs[0] === earlier,
          )
          const readers = tensors.filter(
            ({ inputs }) =>
              inputs.includes(earlier) || (probabilities !== undefined && inputs.includes(probabilities)),
          )
          assert.ok(readers.length >= 4)
          for (const reader of readers) assert.ok(before.has(reader), `${reader.op.kind} of an earlier part`)
        }
      }
      // Nothing that is computed is as wide as the vocabulary.
      assert.ok(tensors.every(({ shape, op }) => op.kind === 'input' || shape[1] !== 256))
    })
})
