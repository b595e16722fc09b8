/** Padding and splitting of sequences. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { buildTokenBatch, padCompletions, splitByTokens } from '../src/rollout/token-batch.ts'

const sequence = (prompt: number[], tokens: number[], masked = false) => ({
  promptIds: Int32Array.from(prompt),
  tokens: Int32Array.from(tokens),
  masked,
})

describe('buildTokenBatch', () => {
  it('pads prompts on the left and completions on the right', () => {
    const batch = buildTokenBatch([sequence([1, 2, 3], [4]), sequence([5], [6, 7])], 9)
    assert.deepEqual([batch.rows, batch.promptLength, batch.completionLength], [2, 3, 2])
    assert.deepEqual([...batch.promptIds], [1, 2, 3, 9, 9, 5])
    assert.deepEqual([...batch.promptMask], [1, 1, 1, 0, 0, 1])
    assert.deepEqual([...batch.completionIds], [4, 9, 6, 7])
    assert.deepEqual([...batch.completionMask], [1, 0, 1, 1])
  })
  it('gives a masked sequence an empty completion mask', () => {
    assert.deepEqual([...buildTokenBatch([sequence([1], [2, 3], true)], 0).completionMask], [0, 0])
  })
  it('lays out one number a token', () => {
    assert.deepEqual([...padCompletions([Float32Array.of(1), Float32Array.of(2, 3)], 3)], [1, 0, 0, 2, 3, 0])
  })
})

describe('splitByTokens', () => {
  it('keeps the padded size of every part within the limit, and the order', () => {
    const sequences = [2, 2, 6, 2, 2].map((length) => sequence([1], new Array<number>(length).fill(1)))
    const parts = splitByTokens(sequences, 9)
    assert.deepEqual(
      parts.map((part) => part.map(({ tokens }) => tokens.length)),
      [[2, 2], [6], [2, 2]],
    )
  })
  it('gives a sequence over the limit a part of its own', () => {
    assert.equal(splitByTokens([sequence([1, 1], [1]), sequence([1, 1], [1])], 2).length, 2)
    assert.deepEqual(splitByTokens([], 5), [])
  })
})
