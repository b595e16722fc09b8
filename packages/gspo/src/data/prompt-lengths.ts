/**
 * Whether every prompt of a data set leaves room for a completion, asked before training begins: a row that does not
 * would end a run whenever the data order reaches it, and every restart there again.
 */
import { GspoError } from '../errors.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { DataRow } from './dataset.ts'

/** Special tokens that a tokenizer may add around a text. */
const ADDED_TOKENS = 16

/** What a chat template may add to its messages, bytes: a system prompt and the marks of each turn. */
const TEMPLATE_BYTES = 4096

/** How much longer a template may write its variables (tools) than JSON does: with line breaks and indents. */
const INDENT_FACTOR = 4

/** Tokens of the prompt with the most text: one that will come, if not always the longest. */
export function longTextTokens(rows: readonly DataRow[], tokenizer: Pick<Tokenizer, 'encodePrompt'>): number {
  let longest: DataRow['prompt'] = ''
  let most = 0
  for (const { prompt } of rows) {
    const bytes = byteBound(prompt, TEMPLATE_BYTES)
    if (bytes > most) [longest, most] = [prompt, bytes]
  }
  return tokenizer.encodePrompt(longest).length
}

/**
 * Tokenises only rows that could be too long: a token is at least one byte of the text.
 * Throws GspoError BAD_DATASET that names the first row without room.
 */
export function checkPromptLengths(
  rows: readonly DataRow[],
  tokenizer: Pick<Tokenizer, 'encodePrompt'>,
  {
    maxPositions,
    completionLength,
    templateVariables = {},
  }: {
    maxPositions: number
    completionLength: number
    templateVariables?: Readonly<Record<string, unknown>>
  },
): void {
  const room = maxPositions - completionLength
  const templateBytes = TEMPLATE_BYTES + INDENT_FACTOR * Buffer.byteLength(JSON.stringify(templateVariables))
  for (const [index, { prompt }] of rows.entries()) {
    if (byteBound(prompt, templateBytes) <= room) continue
    const tokens = tokenizer.encodePrompt(prompt).length
    if (tokens > room)
      throw new GspoError(
        'BAD_DATASET',
        `row ${index + 1} of the data set (blank lines not counted) has a prompt of ${tokens} tokens and max_completion_length is ${completionLength}, together over the model's ${maxPositions} positions: shorten or remove the row, or lower max_completion_length`,
      )
  }
}

function byteBound(prompt: DataRow['prompt'], templateBytes: number): number {
  if (typeof prompt === 'string') return Buffer.byteLength(prompt) + ADDED_TOKENS
  return prompt.reduce((sum, { content }) => sum + Buffer.byteLength(content), templateBytes)
}
