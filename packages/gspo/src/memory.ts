/** How much memory training takes, estimated from sizes, and how many tokens fit a limit. Pure. */
import { DEFAULT_ACTIVATION_BYTES, MICRO_BATCH_TOKENS, PROCESS_BYTES } from './defaults.ts'
import type { EngineDemand } from './engine/choose.ts'
import type { WeightHolding } from './engine/engine.ts'
import { GspoError } from './errors.ts'
import type { ModelConfig } from './models/config.ts'

/** What the estimate needs besides the model's sizes. */
export interface MemoryRequest {
  readonly config: ModelConfig
  /** Weights of the model. */
  readonly parameters: number
  readonly use4bit: boolean
  /** How the engine holds weights ; mapped when left out. */
  readonly weights?: WeightHolding
  /** Memory that this process may take, in bytes; undefined for no limit. */
  readonly limitBytes: number | undefined
}

const FLOAT_BYTES = 4

/** Bytes of a 4-bit weight with its share of a block's scale. */
const QUANTISED_BYTES = 0.65

/** Keys that a token is assumed to see: attention weights are kept for the backward pass. */
const ASSUMED_SEEN_TOKENS = 256

/**
 * Bytes that one token's activations take until the backward pass has used them: in each layer about six rows of the
 * hidden size, four of the queries and keys, five of the feed-forward and two of attention weights.
 */
export function activationBytesPerToken(config: ModelConfig): number {
  const { hiddenSize, heads, kvHeads, headSize, intermediateSize, moe } = config
  const feedForward = (isMoe: boolean): number =>
    isMoe && moe !== null ? moe.expertsPerToken * moe.expertSize + moe.experts : intermediateSize
  const perLayer = config.moeLayers.map(
    (isMoe) =>
      6 * hiddenSize +
      4 * (heads + kvHeads) * headSize +
      5 * feedForward(isMoe) +
      2 * heads * ASSUMED_SEEN_TOKENS,
  )
  return FLOAT_BYTES * perLayer.reduce((sum, numbers) => sum + numbers, 0)
}

/**
 * Bytes that stay while training and decoding: the process, and the weights once as mapped and once as packed, or once
 * as float32 where the engine copies them.
 */
export function residentBytes({ config, parameters, use4bit, weights }: MemoryRequest): number {
  const table = config.vocabSize * config.hiddenSize
  const head = config.tiedHead ? table : 2 * table
  // In 4 bits the head that decodes is a matrix of its own.
  if (weights === 'copied') return PROCESS_BYTES + FLOAT_BYTES * (parameters + (use4bit ? table : 0))
  if (!use4bit) return PROCESS_BYTES + 2 * FLOAT_BYTES * parameters
  // The head as float32 for training and as bytes, mapped and packed, for decoding.
  return PROCESS_BYTES + 2 * QUANTISED_BYTES * (parameters - head) + (FLOAT_BYTES + 2) * table
}

/** Tokens that may run through the training graph at once; throws OUT_OF_MEMORY_LIMIT when not even one fits. */
export function trainingTokens(request: MemoryRequest): number {
  const { limitBytes, config } = request
  const perToken = activationBytesPerToken(config)
  const resident = residentBytes(request)
  const available = limitBytes === undefined ? DEFAULT_ACTIVATION_BYTES : limitBytes - resident
  const tokens = Math.floor(available / perToken)
  if (tokens < 1)
    throw new GspoError(
      'OUT_OF_MEMORY_LIMIT',
      `the weights alone take about ${megabytes(resident)} MB, the limit is ${megabytes(limitBytes ?? 0)} MB: raise it or use 4-bit weights`,
    )
  return Math.min(tokens, MICRO_BATCH_TOKENS)
}

/** What an engine needs to know to be chosen: weights, and activations of the tokens that run at once. */
export function engineDemand(request: MemoryRequest): EngineDemand {
  const { config, parameters } = request
  const activations = trainingTokens(request) * activationBytesPerToken(config)
  return {
    parameters,
    hasExperts: config.moe !== null,
    bytes: residentBytes(request) - PROCESS_BYTES + activations,
  }
}

function megabytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20)
}
