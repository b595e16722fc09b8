/**
 * Sampling groups of completions with the KV cache: every prompt is prefilled once and its row is repeated for the
 * group, which sees one copy of the prompt's keys and values; finished rows leave the batch at once. Each draw depends
 * only on (seed, position, place in the group, token), never on which rows are decoded together.
 */
import { setImmediate as yieldToEvents } from 'node:timers/promises'
import type { ResolvedConfig } from '../config.ts'
import { ENGINE_SOFTMAX_VOCABULARY } from '../defaults.ts'
import { GspoError } from '../errors.ts'
import type { Decoding, Policy } from '../policy-types.ts'
import { STREAM, uniform } from '../sampling/philox.ts'
import type { StreamId } from '../sampling/philox.ts'
import { argmax, sampleFromParts, sampleProbability, sampleToken, tokenLogp } from '../sampling/sample.ts'
import type { SampledToken, SamplingOptions } from '../sampling/sample.ts'

/** Why a completion ended. */
export type FinishReason = 'eos' | 'stop' | 'length'

/** A prompt to complete. */
export interface RolloutPrompt {
  /** Coordinate of its draws: the global data position. */
  readonly position: number
  readonly ids: Int32Array
}

/** A sampled completion; the end token is part of it. */
export interface Completion {
  readonly tokens: Int32Array
  /** Logprob of each token under the policy at the temperature. */
  readonly logps: Float32Array
  readonly finish: FinishReason
}

/** How to sample. */
export interface RolloutOptions {
  readonly groupSize: number
  readonly maxTokens: number
  /** null decodes greedily. */
  readonly sampling: SamplingOptions | null
  readonly seed: number
  readonly stream?: StreamId
  readonly maxRows: number
  /** Ends a completion after one of these texts; `decode` turns ids to text. */
  readonly stop: readonly string[]
  readonly decode: (ids: readonly number[]) => string
  readonly signal: AbortSignal
}

/** The rollout of a training step by its configuration. */
export function rolloutOptionsOf(
  {
    config,
    tokenizer,
  }: {
    readonly config: ResolvedConfig
    readonly tokenizer: { decode(ids: readonly number[]): string }
  },
  signal: AbortSignal,
): RolloutOptions {
  return {
    groupSize: config.group_size,
    maxTokens: config.max_completion_length,
    sampling: { temperature: config.temperature, topK: config.top_k, topP: config.top_p, minP: config.min_p },
    seed: config.seed,
    maxRows: config.max_decoding_rows,
    stop: config.stop,
    decode: (ids) => tokenizer.decode(ids),
    signal,
  }
}

interface Row {
  readonly prompt: RolloutPrompt
  readonly place: number
  readonly tokens: number[]
  readonly logps: number[]
  finish: FinishReason | null
}

/**
 * Completions of every prompt, `groupSize` each, in order. Rejects with GspoError BAD_BATCH (a prompt that leaves no
 * room), NON_FINITE (logits), or the signal's reason.
 */
export async function rollout(
  policy: Policy,
  prompts: readonly RolloutPrompt[],
  options: RolloutOptions,
): Promise<Completion[][]> {
  for (const prompt of prompts) checkPrompt(policy, prompt, options)
  const groups: Completion[][] = []
  const promptsAtOnce = policy.promptsAtOnce({
    promptLength: prompts.reduce((most, { ids }) => Math.max(most, ids.length), 1),
    completionLength: options.maxTokens,
    group: options.groupSize,
    maxRows: options.maxRows,
  })
  for (let start = 0; start < prompts.length; start += promptsAtOnce)
    groups.push(...(await rolloutBatch(policy, prompts.slice(start, start + promptsAtOnce), options)))
  return groups
}

function checkPrompt(policy: Policy, { ids, position }: RolloutPrompt, { maxTokens }: RolloutOptions): void {
  const { maxPositions } = policy.model
  if (ids.length === 0)
    throw new GspoError('BAD_BATCH', `the prompt at data position ${position} has no tokens`)
  if (ids.length + maxTokens > maxPositions)
    throw new GspoError(
      'BAD_BATCH',
      `the prompt at data position ${position} has ${ids.length} tokens and max_completion_length is ${maxTokens}, together over the model's ${maxPositions} positions: shorten the prompt or lower max_completion_length`,
    )
}

async function rolloutBatch(
  policy: Policy,
  prompts: readonly RolloutPrompt[],
  options: RolloutOptions,
): Promise<Completion[][]> {
  const { groupSize } = options
  const groups = prompts.map((prompt) =>
    Array.from({ length: groupSize }, (_, place) => newRow(prompt, place)),
  )
  options.signal.throwIfAborted()
  const longest = prompts.reduce((most, { ids }) => Math.max(most, ids.length), 1)
  const decoding = await policy.startDecoding(
    prompts.map(({ ids }) => ids),
    { rows: prompts.length * groupSize, tokens: longest + options.maxTokens },
  )
  try {
    decoding.select(prompts.flatMap((_, index) => new Array<number>(groupSize).fill(index)))
    await decodeRows(policy, decoding, groups.flat(), options)
  } finally {
    decoding.close()
  }
  return groups.map((rows) => rows.map(toCompletion))
}

function newRow(prompt: RolloutPrompt, place: number): Row {
  return { prompt, place, tokens: [], logps: [], finish: null }
}

function toCompletion({ tokens, logps, finish }: Row): Completion {
  return { tokens: Int32Array.from(tokens), logps: Float32Array.from(logps), finish: finish ?? 'length' }
}

/** Chooses and feeds tokens until every row has finished; rows that have are dropped from the decoding. */
async function decodeRows(
  policy: Policy,
  decoding: Decoding,
  rows: readonly Row[],
  options: RolloutOptions,
): Promise<void> {
  const { vocabSize, eosTokenIds } = policy.model
  const eos = new Set(eosTokenIds)
  let active = rows
  for (;;) {
    // The engine blocks this thread; without a turn of the event loop a cancel message would never be read.
    await yieldToEvents()
    options.signal.throwIfAborted()
    const choose = await chooser(decoding, vocabSize, options)
    const kept: number[] = []
    for (const [index, row] of active.entries()) {
      const { token, logp } = choose(index, row)
      if (!Number.isFinite(logp)) throw nonFinite(row)
      row.tokens.push(token)
      row.logps.push(logp)
      row.finish = finishOf(row, token, eos, options)
      if (row.finish === null) kept.push(index)
    }
    if (kept.length === 0) return
    if (kept.length < active.length) {
      decoding.select(kept)
      active = active.filter((row) => row.finish === null)
    }
    await decoding.step(Int32Array.from(active, ({ tokens }) => tokens.at(-1) ?? 0))
  }
}

/** How the next token of a row is chosen from what the engine has computed for this step. */
async function chooser(
  decoding: Decoding,
  vocabSize: number,
  { sampling, seed, stream = STREAM.sample }: RolloutOptions,
): Promise<(index: number, row: Row) => SampledToken> {
  if (sampling === null)
    return (index) => {
      const token = argmax(decoding.logits, index, vocabSize)
      return { token, logp: tokenLogp(decoding.logits, index, vocabSize, token, 1) }
    }
  const u = ({ prompt, place, tokens }: Row): number =>
    uniform(seed, stream, prompt.position, place, tokens.length)
  if (vocabSize < ENGINE_SOFTMAX_VOCABULARY)
    return (index, row) => sampleToken(decoding.logits, index, vocabSize, sampling, u(row))
  const { temperature, topK, topP, minP } = sampling
  const parts = topK === 0 && topP === 1 && minP === 0 ? await decoding.partSums(temperature) : undefined
  if (parts !== undefined) {
    const count = parts.sums.length / decoding.rows
    return (index, row) =>
      sampleFromParts(
        decoding.logits.subarray(index * vocabSize, (index + 1) * vocabSize),
        {
          largest: parts.largest[index] ?? NaN,
          sums: parts.sums.subarray(index * count, (index + 1) * count),
        },
        temperature,
        u(row),
      )
  }
  const probabilities = await decoding.probabilities(temperature)
  return (index, row) => sampleProbability(probabilities, index, vocabSize, sampling, u(row))
}

function finishOf(
  row: Row,
  token: number,
  eos: ReadonlySet<number>,
  options: RolloutOptions,
): FinishReason | null {
  if (eos.has(token)) return 'eos'
  if (options.stop.length > 0) {
    const text = options.decode(row.tokens)
    if (options.stop.some((stop) => text.includes(stop))) return 'stop'
  }
  return row.tokens.length >= options.maxTokens ? 'length' : null
}

function nonFinite(row: Row): GspoError {
  return new GspoError(
    'NON_FINITE',
    `logits of completion ${row.place} at data position ${row.prompt.position}, token ${row.tokens.length}, are not finite: the adapter has diverged (lower learning_rate) or the model files are damaged`,
  )
}
