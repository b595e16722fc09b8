/** Packs token batches for the training graph: pure. Equal prompts in a row become one, columns of padding go. */
import { GspoError } from './errors.ts'
import { MICRO_BATCH_TOKENS } from './defaults.ts'
import type { Feed } from './engine/engine.ts'
import { TARGETS_INPUT } from './models/head.ts'
import { CHUNK_TOKENS, chunkLevels } from './models/delta-rule.ts'
import { LINEAR_INPUTS, maskNames, type BatchShape } from './models/training-graph.ts'
import type { TokenBatch } from './policy-types.ts'

/** The lowest float32: masked scores drown in it, and a query that sees nothing stays finite. */
export const MASKED = -3.4028234663852886e38

/** A part of a batch as the training graph wants it. */
export interface PackedBatch {
  /** First row of the batch, and how many. */
  readonly firstRow: number
  readonly rows: number
  /** Scored tokens; entry n is the token at `slots[n]` of [rows, completionLength]. */
  readonly slots: Int32Array
  /** Which graph it is for. */
  readonly shape: BatchShape
  /** Positions that occur: the rotary tables must reach this far. */
  readonly positions: number
  readonly feeds: Readonly<Record<string, Feed>>
}

/** Throws BAD_BATCH when an array's length does not fit the sizes. */
export function checkBatch(batch: TokenBatch, vocabSize: number): void {
  const { rows, promptLength, completionLength } = batch
  const lengths: [string, number, number][] = [
    ['promptIds', batch.promptIds.length, rows * promptLength],
    ['promptMask', batch.promptMask.length, rows * promptLength],
    ['completionIds', batch.completionIds.length, rows * completionLength],
    ['completionMask', batch.completionMask.length, rows * completionLength],
  ]
  for (const [name, seen, expected] of lengths)
    if (seen !== expected)
      throw new GspoError('BAD_BATCH', `${name} has ${seen} elements, its sizes want ${expected}`)
  for (const ids of [batch.promptIds, batch.completionIds])
    for (const id of ids)
      if (id < 0 || id >= vocabSize)
        throw new GspoError('BAD_BATCH', `token id ${id} is outside the vocabulary of ${vocabSize}`)
}

/** How many rows in a row share one prompt, when that is the same number all through; else 1. */
export function groupSize(batch: TokenBatch): number {
  const { rows, promptLength, promptIds, promptMask } = batch
  const isSame = (a: number, b: number): boolean => {
    for (let i = 0; i < promptLength; i++) {
      const [x, y] = [a * promptLength + i, b * promptLength + i]
      if (promptMask[x] !== promptMask[y] || (promptMask[x] === 1 && promptIds[x] !== promptIds[y]))
        return false
    }
    return true
  }
  let size = 0
  let run = 0
  for (let row = 0; row <= rows; row++) {
    if (row < rows && row > 0 && isSame(row - 1, row)) {
      run++
      continue
    }
    if (run > 0) size = size === 0 ? run : gcd(size, run)
    run = 1
  }
  return Math.max(size, 1)
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b)
}

/** Rows that run through a graph together: whole groups, or parts of a group that is too large. */
export interface RowRange {
  readonly firstRow: number
  readonly rows: number
  /** Rows that share a prompt. */
  readonly group: number
}

/** The sizes of a batch that its memory depends on. */
export function batchTokens(batch: TokenBatch): { longest: number; all: number } {
  const { rows, promptLength, completionLength } = batch
  const prompts = Math.ceil(rows / groupSize(batch))
  return {
    longest: promptLength + Math.max(completionLength, 1),
    all: prompts * promptLength + rows * Math.max(completionLength, 1),
  }
}

/** Cuts a batch into parts of at most `maxTokens` tokens, one row at least. */
export function splitRows(batch: TokenBatch, maxTokens = MICRO_BATCH_TOKENS): RowRange[] {
  const shared = groupSize(batch)
  const rowTokens = Math.max(batch.completionLength, 1)
  const isWhole = batch.promptLength + shared * rowTokens <= maxTokens
  const group = isWhole ? shared : largestDivisor(shared, (maxTokens - batch.promptLength) / rowTokens)
  const groupTokens = batch.promptLength + group * rowTokens
  const rows = group * Math.max(Math.floor(maxTokens / groupTokens), 1)
  const parts: RowRange[] = []
  for (let firstRow = 0; firstRow < batch.rows; firstRow += rows)
    parts.push({ firstRow, rows: Math.min(rows, batch.rows - firstRow), group })
  return parts
}

function largestDivisor(value: number, limit: number): number {
  for (let divisor = Math.floor(Math.min(value, limit)); divisor > 1; divisor--)
    if (value % divisor === 0) return divisor
  return 1
}

/** What to pack; `isWhole` runs last tokens through too. */
export interface PackRequest extends RowRange {
  readonly isWhole: boolean
  /** Parts of the vocabulary for so many scored tokens. */
  readonly headParts: (scored: number) => number
  /** Sliding-window sizes that occur in the model; null for none. */
  readonly windows: readonly (number | null)[]
  /** Whether the model has linear attention, which wants whole chunks. */
  readonly isChunked: boolean
}

/** Packs some rows of a batch. */
export function packBatch(batch: TokenBatch, request: PackRequest): PackedBatch {
  const { firstRow, rows, group, isWhole, windows, isChunked } = request
  const prompts = rows / group
  const padding = leadingPadding(batch, firstRow, rows)
  const promptChunks = isChunked ? chunkCount(batch.promptLength - padding) : 1
  const promptLength = roundUp(batch.promptLength - padding, promptChunks)
  // Columns of the batch that are left out; below 0 where whole chunks need more padding than there is.
  const skip = batch.promptLength - promptLength
  const used = usedCompletion(batch, firstRow, rows)
  // The last token is predicted and predicts nothing: it need not run through the model unless experts are counted.
  const seen = isWhole ? used : Math.max(used - 1, 1)
  const completionChunks = isChunked ? chunkCount(seen) : 1
  const completionLength = roundUp(seen, completionChunks)
  const promptTokens = prompts * promptLength
  const tokens = promptTokens + rows * completionLength

  const promptIds = new Int32Array(promptTokens)
  const promptValid = new Int32Array(promptTokens)
  const completionIds = new Int32Array(rows * completionLength)
  const positions = new Int32Array(tokens)
  const promptSizes = new Int32Array(prompts)
  for (let prompt = 0; prompt < prompts; prompt++) {
    const from = (firstRow + prompt * group) * batch.promptLength + skip
    let position = 0
    for (let i = Math.max(-skip, 0); i < promptLength; i++) {
      const at = prompt * promptLength + i
      promptIds[at] = batch.promptIds[from + i] ?? 0
      promptValid[at] = batch.promptMask[from + i] ?? 0
      positions[at] = position
      position += promptValid[at]
    }
    promptSizes[prompt] = position
  }
  const scoreRows: number[] = []
  const targets: number[] = []
  const slots: number[] = []
  const shares = new Float32Array(tokens)
  for (let at = 0; at < promptTokens; at++) shares[at] = promptValid[at] === 1 ? group : 0
  let reach = promptLength
  for (let row = 0; row < rows; row++) {
    const prompt = Math.floor(row / group)
    const from = (firstRow + row) * batch.completionLength
    const size = promptSizes[prompt] ?? 0
    for (let i = 0; i < completionLength; i++) {
      const at = row * completionLength + i
      positions[promptTokens + at] = size + i
      reach = Math.max(reach, size + i + 1)
      if (i >= batch.completionLength) continue
      completionIds[at] = batch.completionIds[from + i] ?? 0
      shares[promptTokens + at] = batch.completionMask[from + i] ?? 0
    }
    for (let i = 0; i < used; i++) {
      if (batch.completionMask[from + i] !== 1) continue
      scoreRows.push(
        i === 0 ? (prompt + 1) * promptLength - 1 : promptTokens + row * completionLength + i - 1,
      )
      targets.push(batch.completionIds[from + i] ?? 0)
      slots.push(row * batch.completionLength + i)
    }
  }
  const counted = shares.reduce((sum, share) => sum + share, 0)
  const int = (dims: number[], values: Int32Array): Feed => ({ dims, values })
  const sizes = { prompts, group, promptLength, completionLength }
  const feeds: Record<string, Feed> = {
    prompt_ids: int([prompts, promptLength], promptIds),
    completion_ids: int([prompts, group, completionLength], completionIds),
    positions: int([tokens, 1], positions),
    score_rows: int([slots.length], Int32Array.from(scoreRows)),
    slots: int([slots.length], Int32Array.from(slots)),
    [TARGETS_INPUT]: int([slots.length], Int32Array.from(targets)),
    token_shares: { dims: [tokens, 1], values: shares.map((share) => share / counted) },
  }
  if (isChunked) {
    feeds[LINEAR_INPUTS.isPromptToken] = {
      dims: [prompts, promptLength],
      values: Float32Array.from(promptValid),
    }
    feeds[LINEAR_INPUTS.isCompletionToken] = {
      dims: [prompts, group, completionLength],
      values: new Float32Array(rows * completionLength).fill(1),
    }
    feeds[LINEAR_INPUTS.promptLevels] = levelsFeed(promptLength / promptChunks)
    feeds[LINEAR_INPUTS.completionLevels] = levelsFeed(completionLength / completionChunks)
  }
  for (const window of new Set(windows)) {
    const names = maskNames(window)
    const masks = buildMasks(sizes, promptValid, positions, window)
    feeds[names.prompt] = { dims: [prompts, 1, 1, promptLength, promptLength], values: masks.prompt }
    feeds[names.completion] = {
      dims: [prompts, 1, group, 1, completionLength, promptLength + completionLength],
      values: masks.completion,
    }
  }
  const shape = {
    headParts: request.headParts(slots.length),
    promptChunks,
    completionChunks,
  }
  return { firstRow, rows, shape, slots: Int32Array.from(slots), positions: reach, feeds }
}

/** Chunks of linear attention for so many tokens: a power of two, so that few different graphs are compiled. */
function chunkCount(tokens: number): number {
  let count = 1
  while (count * CHUNK_TOKENS < tokens) count *= 2
  return count
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple
}

/** The levels input of linear attention for chunks of so many tokens. */
export function levelsFeed(length: number): Feed {
  return { dims: [length, length], values: chunkLevels(length) }
}

interface Sizes {
  prompts: number
  group: number
  promptLength: number
  completionLength: number
}

/** A query sees real keys at its own position or before, at most `window` of them. */
function buildMasks(
  { prompts, group, promptLength, completionLength }: Sizes,
  promptValid: Int32Array,
  positions: Int32Array,
  window: number | null,
): { prompt: Float32Array; completion: Float32Array } {
  const reach = window ?? Infinity
  const seen = promptLength + completionLength
  const prompt = new Float32Array(prompts * promptLength * promptLength).fill(MASKED)
  const completion = new Float32Array(prompts * group * completionLength * seen).fill(MASKED)
  for (let p = 0; p < prompts; p++) {
    const base = p * promptLength
    for (let query = 0; query < promptLength; query++)
      for (let key = 0; key <= query; key++)
        if (promptValid[base + key] === 1 && query - key < reach)
          prompt[(base + query) * promptLength + key] = 0
    for (let member = 0; member < group; member++) {
      const row = p * group + member
      for (let query = 0; query < completionLength; query++) {
        const at = (row * completionLength + query) * seen
        const position = positions[prompts * promptLength + row * completionLength + query] ?? 0
        for (let key = 0; key < promptLength; key++)
          if (promptValid[base + key] === 1 && position - (positions[base + key] ?? 0) < reach)
            completion[at + key] = 0
        for (let key = Math.max(0, query - reach + 1); key <= query; key++)
          completion[at + promptLength + key] = 0
      }
    }
  }
  return { prompt, completion }
}

/** Columns on the left that are padding in every row; at least one column stays. */
function leadingPadding({ promptLength, promptMask }: TokenBatch, firstRow: number, rows: number): number {
  let skip = promptLength - 1
  for (let row = firstRow; row < firstRow + rows; row++)
    for (let i = 0; i < skip; i++) if (promptMask[row * promptLength + i] === 1) skip = i
  return Math.max(skip, 0)
}

/** Columns of completions up to the last real token of any row. */
function usedCompletion(
  { completionLength, completionMask }: TokenBatch,
  firstRow: number,
  rows: number,
): number {
  let used = 0
  for (let row = firstRow; row < firstRow + rows; row++)
    for (let i = used; i < completionLength; i++)
      if (completionMask[row * completionLength + i] === 1) used = i + 1
  return used
}
