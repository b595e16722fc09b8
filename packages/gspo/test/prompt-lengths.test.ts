/** Prompts without room for a completion are refused before training, and only doubtful rows are tokenised. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseDataset } from '../src/data/dataset.ts'
import { checkPromptLengths } from '../src/data/prompt-lengths.ts'

/** One token a character, counted. */
function countingTokenizer(): { asked: () => number; encodePrompt: (prompt: unknown) => Int32Array } {
  let asked = 0
  return {
    asked: () => asked,
    encodePrompt: (prompt) => {
      asked++
      return new Int32Array(typeof prompt === 'string' ? prompt.length : 5000)
    },
  }
}

const rowsOf = (...prompts: unknown[]): ReturnType<typeof parseDataset> =>
  parseDataset(Buffer.from(prompts.map((prompt) => JSON.stringify({ prompt })).join('\n')), 'f')

describe('checkPromptLengths', () => {
  it('takes a prompt that just fits and names the row of one that does not', () => {
    const limits = { maxPositions: 100, completionLength: 20 }
    checkPromptLengths(rowsOf('a'.repeat(80)), countingTokenizer(), limits)
    assert.throws(() => checkPromptLengths(rowsOf('a', 'b'.repeat(81)), countingTokenizer(), limits), {
      code: 'BAD_DATASET',
      message: /^row 2 .* prompt of 81 tokens and max_completion_length is 20, .* 100/,
    })
  })
  it('tokenises no row that is short in bytes', () => {
    const tokenizer = countingTokenizer()
    checkPromptLengths(rowsOf('a'.repeat(64), 'é'.repeat(32)), tokenizer, {
      maxPositions: 100,
      completionLength: 20,
    })
    assert.equal(tokenizer.asked(), 0)
  })
  it('looks at messages as the chat template writes them', () =>
    assert.throws(
      () =>
        checkPromptLengths(rowsOf([{ role: 'user', content: 'x'.repeat(900) }]), countingTokenizer(), {
          maxPositions: 4500,
          completionLength: 20,
        }),
      { code: 'BAD_DATASET', message: /prompt of 5000 tokens/ },
    ))
})
