/** How much memory sampling takes, from sizes, and how many prompts' groups are sampled at once. Pure. */
import { CACHE_BLOCK_TOKENS, MEMORY_RESERVE } from './defaults.ts'
import { GspoError } from './errors.ts'
import { megabytes, residentBytes, type MemoryRequest } from './memory.ts'
import type { ModelConfig } from './models/model-config.ts'
import { linearSizes } from './models/modules.ts'

/** A batch of prompts whose groups are to be sampled. */
export interface DecodingDemand {
  /** Tokens of the longest prompt. */
  readonly promptLength: number
  /** Most tokens of a completion. */
  readonly completionLength: number
  /** Completions of each prompt. */
  readonly group: number
  /** Completions that may run at once, whatever the memory; a whole group always may. */
  readonly maxRows: number
}

const FLOAT_BYTES = 4

/** Logits and probabilities. */
const SCORE_COPIES = 2

/** Bytes of keys and values of one sequence: layers of softmax attention x heads x head size x places x 4 x 2. */
export function cacheBytes(config: ModelConfig, tokens: number): number {
  const places = Math.ceil(tokens / CACHE_BLOCK_TOKENS) * CACHE_BLOCK_TOKENS
  return attentionLayers(config) * config.kvHeads * config.headSize * places * FLOAT_BYTES * 2
}

/** Bytes that layers of linear attention keep of one sequence, whatever its length: a state to read and one to write. */
export function stateBytes(config: ModelConfig): number {
  const { linear } = config
  if (linear === null) return 0
  const layers = config.layers - attentionLayers(config)
  const recent = (linear.kernel - 1) * linearSizes(linear).channels
  return layers * (recent + linear.valueHeads * linear.keySize * linear.valueSize) * FLOAT_BYTES * 2
}

/**
 * Bytes of one completion while it is sampled: its cache, one layer's keys or values again while the cache grows, its
 * states, and its scores over the vocabulary.
 */
export function sequenceBytes(config: ModelConfig, tokens: number): number {
  const cache = cacheBytes(config, tokens)
  const growing = cache / (2 * Math.max(attentionLayers(config), 1))
  return cache + growing + stateBytes(config) + SCORE_COPIES * FLOAT_BYTES * config.vocabSize
}

/**
 * Bytes of one prompt while it runs through the model: its cache, and one layer's rows of hidden size, heads and
 * feed-forward, and its attention weights with a mask and a copy.
 */
export function prefillBytes(config: ModelConfig, tokens: number): number {
  const { hiddenSize, heads, kvHeads, headSize, intermediateSize, moe } = config
  const feedForward =
    moe === null ? intermediateSize : Math.max(intermediateSize, moe.expertsPerToken * moe.expertSize)
  const numbers = 4 * hiddenSize + 2 * (heads + 2 * kvHeads) * headSize + 3 * feedForward + 3 * heads * tokens
  return sequenceBytes(config, tokens) + tokens * numbers * FLOAT_BYTES
}

/**
 * Prompts whose groups are sampled at once: as many as `maxRows` allows and the limit holds, one at least.
 * Throws OUT_OF_MEMORY_LIMIT where not even one group fits, and names what to lower.
 */
export function promptsAtOnce(request: MemoryRequest, demand: DecodingDemand): number {
  const { config, limitBytes } = request
  const { promptLength, completionLength, group, maxRows } = demand
  const wanted = Math.max(Math.floor(maxRows / group), 1)
  if (limitBytes === undefined) return wanted
  // A prompt is there once until its group is. It has places of its own, and at worst each row a copy of it.
  const promptPlaces = Math.ceil(promptLength / CACHE_BLOCK_TOKENS) * CACHE_BLOCK_TOKENS
  const each = Math.max(
    prefillBytes(config, promptLength),
    group * sequenceBytes(config, promptPlaces + completionLength),
  )
  const available = limitBytes * (1 - MEMORY_RESERVE) - residentBytes(request)
  const fitting = Math.floor(available / each)
  if (fitting >= 1) return Math.min(wanted, fitting)
  throw new GspoError(
    'OUT_OF_MEMORY_LIMIT',
    `sampling a group of ${group} completions of up to ${completionLength} tokens on a prompt of ${promptLength} takes about ${megabytes(each)} MB of KV cache, scores and activations; memory_limit_mb ${megabytes(limitBytes)} leaves ${megabytes(Math.max(available, 0))} beside the model: lower group_size or max_completion_length, shorten prompts, ${request.use4bit ? '' : 'set use_4bit, '}or raise memory_limit_mb by ${megabytes((each - available) / (1 - MEMORY_RESERVE))}`,
  )
}

/** Layers of softmax attention. */
function attentionLayers({ linearLayers }: ModelConfig): number {
  return linearLayers.filter((isLinear) => !isLinear).length
}
