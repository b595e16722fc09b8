import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { blockCosts, planBlocks } from '../src/decoding-blocks.ts'
import { QWEN3_06B } from './model-shapes.ts'

describe('blocks of rows that share a prompt', () => {
  it('one prompt is one block, whatever it costs', () => {
    for (const prompt of [0, 1, 1000])
      assert.deepEqual(planBlocks([0, 0, 0], { row: 1, prompt }), {
        members: 3,
        prompts: [0],
        rows: [0, 1, 2],
      })
  })

  it('even groups are a block each, wherever their rows are', () => {
    assert.deepEqual(planBlocks([4, 2, 4, 2], { row: 1, prompt: 0.5 }), {
      members: 2,
      prompts: [4, 2],
      rows: [0, 2, 1, 3],
    })
  })

  it('a row is computed again where that costs less than another copy of the prompt, and not where it costs more', () => {
    const promptOf = [0, 0, 0, 0, 1, 1, 1]
    // Blocks of 4: 8 rows and 2 prompts; of 1: 7 rows and 7 prompts; of 2: 8 rows and 4 prompts.
    assert.deepEqual(planBlocks(promptOf, { row: 1, prompt: 0.3 }), {
      members: 4,
      prompts: [0, 1],
      rows: [0, 1, 2, 3, 4, 5, 6, 6],
    })
    assert.deepEqual(planBlocks(promptOf, { row: 1, prompt: 0.1 }), {
      members: 1,
      prompts: [0, 0, 0, 0, 1, 1, 1],
      rows: [0, 1, 2, 3, 4, 5, 6],
    })
  })

  it('costs are the products of all layers for a row, and keys and values of all layers for a prompt', () => {
    // 28 x 1024 x (2 x 16 heads x 128 + 2 x 8 x 128 + 3 x 3072), and 28 x 2 x 8 x 128 numbers a token, 20 products each.
    assert.deepEqual(blockCosts(QWEN3_06B, 100), { row: 440_401_920, prompt: 114_688_000 })
  })
})
