/** Padding traced sequences into the batches the policy takes: prompts on the left, completions on the right. Pure. */
import type { TokenBatch } from '../policy-types.ts'

/** A prompt and one of its completions. */
export interface Sequence {
  readonly promptIds: Int32Array
  readonly tokens: Int32Array
  /** Whether its completion tokens take part in the loss; a masked one has mask 0 everywhere. */
  readonly masked?: boolean
}

/** The padded batch of some sequences; as wide as its longest prompt and completion. */
export function buildTokenBatch(sequences: readonly Sequence[], padTokenId: number): TokenBatch {
  const rows = sequences.length
  let promptLength = 1
  let completionLength = 1
  for (const { promptIds, tokens } of sequences) {
    promptLength = Math.max(promptLength, promptIds.length)
    completionLength = Math.max(completionLength, tokens.length)
  }
  const promptIds = new Int32Array(rows * promptLength).fill(padTokenId)
  const promptMask = new Int32Array(rows * promptLength)
  const completionIds = new Int32Array(rows * completionLength).fill(padTokenId)
  const completionMask = new Int32Array(rows * completionLength)
  for (const [row, sequence] of sequences.entries()) {
    const promptStart = (row + 1) * promptLength - sequence.promptIds.length
    promptIds.set(sequence.promptIds, promptStart)
    promptMask.fill(1, promptStart, (row + 1) * promptLength)
    const start = row * completionLength
    completionIds.set(sequence.tokens, start)
    if (sequence.masked !== true) completionMask.fill(1, start, start + sequence.tokens.length)
  }
  return { rows, promptLength, completionLength, promptIds, promptMask, completionIds, completionMask }
}

/** Lays one number a token out over the padded completions, 0 at padding. */
export function padCompletions(values: readonly Float32Array[], completionLength: number): Float32Array {
  const padded = new Float32Array(values.length * completionLength)
  for (const [row, perToken] of values.entries()) padded.set(perToken, row * completionLength)
  return padded
}

/**
 * Splits sequences into consecutive runs whose padded size (rows x (longest prompt + longest completion)) stays within
 * `maxTokens`; a sequence longer than that gets a run of its own.
 */
export function splitByTokens<T extends Sequence>(sequences: readonly T[], maxTokens: number): T[][] {
  const batches: T[][] = []
  let current: T[] = []
  let prompt = 0
  let completion = 0
  for (const sequence of sequences) {
    const nextPrompt = Math.max(prompt, sequence.promptIds.length)
    const nextCompletion = Math.max(completion, sequence.tokens.length)
    if (current.length > 0 && (current.length + 1) * (nextPrompt + nextCompletion) > maxTokens) {
      batches.push(current)
      current = []
      prompt = sequence.promptIds.length
      completion = sequence.tokens.length
    } else {
      prompt = nextPrompt
      completion = nextCompletion
    }
    current.push(sequence)
  }
  if (current.length > 0) batches.push(current)
  return batches
}
