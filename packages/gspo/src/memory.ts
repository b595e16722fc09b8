/** How much memory training takes, estimated from sizes, and how a batch is cut to stay below a limit. Pure. */
import {
  ACTIVATION_COPIES,
  DEFAULT_ACTIVATION_BYTES,
  EFFICIENT_TOKENS,
  HEAD_LEAST_PART,
  HEAD_LOGITS,
  HEAD_SHARE,
  MEMORY_RESERVE,
  MICRO_BATCH_TOKENS,
  PROCESS_BYTES,
} from './defaults.ts'
import type { EngineDemand } from './engine/choose.ts'
import type { WeightHolding } from './engine/engine.ts'
import { GspoError } from './errors.ts'
import type { LinearAttentionConfig, ModelConfig } from './models/model-config.ts'
import { CHUNK_TOKENS } from './models/delta-rule.ts'
import { linearSizes } from './models/modules.ts'

/** What the estimate needs besides the model's sizes. */
export interface MemoryRequest {
  readonly config: ModelConfig
  /** Weights of the model. */
  readonly parameters: number
  readonly use4bit: boolean
  /** In 4 bits: whether the head trains in 8 bits too. */
  readonly use8bitHead?: boolean
  /** Numbers that share a scale in 4 bits. */
  readonly quantBlock: number
  /** How the engine holds weights; mapped when left out. */
  readonly weights?: WeightHolding
  /** Memory that this process may take, in bytes; undefined for no limit. */
  readonly limitBytes: number | undefined
  /** Whether layers are computed twice: each by itself, never, or as the memory asks for. */
  readonly checkpointing?: boolean | 'auto'
}

/** The sizes of a batch that matter. */
export interface BatchTokens {
  /** Of the longest sequence, prompt included: the least that can run at once. */
  readonly longest: number
  /** Of all sequences, shared prompts counted once. */
  readonly all: number
}

/** How a batch runs. */
export interface TrainingPlan {
  /** Tokens that run at once, at most. */
  readonly tokens: number
  /** Segments of layers; with more than one, all but the last compute their forward pass twice. */
  readonly segments: number
  /** Logits that exist at once, but for what `HEAD_LEAST_PART` asks. */
  readonly headLogits: number
}

const FLOAT_BYTES = 4

/** Logits, their probabilities, and a product on the way. */
const LOGIT_COPIES = 3

/** Keys that a token is assumed to see: attention weights are kept for the backward pass. */
const ASSUMED_SEEN_TOKENS = 256

/**
 * Bytes that one token's activations take in one layer until the backward pass has used them: about six rows of the
 * hidden size, four of the queries and keys, five of the feed-forward and two of attention weights, and as much again
 * for gradients on their way and what the allocator cannot use. Linear attention keeps eight rows of what it convolves,
 * six of its values, and for each head of values four keys and six rows of its chunk's matrices.
 */
export function activationBytesPerLayer(config: ModelConfig): number {
  const { hiddenSize, heads, kvHeads, headSize, intermediateSize, moe } = config
  const feedForward = (isMoe: boolean): number =>
    isMoe && moe !== null
      ? moe.expertsPerToken * moe.expertSize + moe.experts + (moe.sharedExpertSize ?? 0)
      : intermediateSize
  const softmax = 4 * (heads + kvHeads) * headSize + 2 * heads * ASSUMED_SEEN_TOKENS
  const recurrent = config.linear === null ? 0 : linearNumbers(config.linear)
  const perLayer = config.moeLayers.map(
    (isMoe, layer) =>
      6 * hiddenSize + (config.linearLayers[layer] === true ? recurrent : softmax) + 5 * feedForward(isMoe),
  )
  return ACTIVATION_COPIES * FLOAT_BYTES * Math.max(...perLayer)
}

function linearNumbers(linear: LinearAttentionConfig): number {
  const { channels, values } = linearSizes(linear)
  return 8 * channels + 6 * values + linear.valueHeads * (4 * linear.keySize + 6 * CHUNK_TOKENS)
}

/**
 * Bytes that stay while training and decoding: the process, logits of the head, and the weights once as mapped and once
 * as packed, or once as float32 where the engine copies them.
 */
export function residentBytes(request: MemoryRequest): number {
  const { config, parameters, use4bit, quantBlock, weights } = request
  const table = config.vocabSize * config.hiddenSize
  const head = config.tiedHead ? table : 2 * table
  const part = LOGIT_COPIES * FLOAT_BYTES * headLogits(request)
  // In 4 bits the head that decodes is a matrix of its own.
  if (weights === 'copied') return PROCESS_BYTES + part + FLOAT_BYTES * (parameters + (use4bit ? table : 0))
  if (!use4bit) return PROCESS_BYTES + part + 2 * FLOAT_BYTES * parameters
  // Codes of 4 bits, a scale a block, and a code of zero a block.
  const quantised = 0.5 + (FLOAT_BYTES + 0.5) / quantBlock
  // The head as float32 for training, unless it trains in the bytes, mapped and packed, that decode.
  const floats = request.use8bitHead === true ? 0 : FLOAT_BYTES
  return PROCESS_BYTES + part + 2 * quantised * (parameters - head) + (floats + 2) * table
}

/**
 * The plan for a batch: a function of sizes and the limit alone, so that a replay cuts the same way. Rows run in smaller
 * parts first, which costs little; layers are computed twice only where not even a small part would fit otherwise.
 * Throws OUT_OF_MEMORY_LIMIT, which names the smallest limit that would do.
 */
export function planTraining(request: MemoryRequest, batch: BatchTokens): TrainingPlan {
  const { config } = request
  const wanted = Math.min(batch.all, Math.max(batch.longest, EFFICIENT_TOKENS))
  const available = activationBytes(request)
  const { least, most } = segmentRange(request)
  let tokens = 0
  for (let segments = least; segments <= most; segments++) {
    tokens = Math.floor(available / bytesPerToken(config, segments))
    if (tokens >= wanted)
      return { tokens: Math.min(tokens, MICRO_BATCH_TOKENS), segments, headLogits: headLogits(request) }
  }
  if (tokens >= batch.longest) return { tokens, segments: most, headLogits: headLogits(request) }
  const needed = leastLimit(request, batch.longest * bytesPerToken(config, most))
  throw new GspoError(
    'OUT_OF_MEMORY_LIMIT',
    `a sequence of ${batch.longest} tokens takes about ${megabytes(needed)} MB to train on, memory_limit_mb is ${megabytes(request.limitBytes ?? 0)}: raise it to that at least, ${request.use4bit ? `${request.use8bitHead === true ? '' : 'or set use_8bit_head, '}or shorten prompts or max_completion_length` : 'or set use_4bit'}`,
  )
}

/**
 * In how many parts the head goes through the vocabulary for so many scored tokens: a power of two where parts do not
 * become too small for it, so that few different graphs are compiled.
 */
export function headParts(scored: number, vocabulary: number, logits: number): number {
  const wanted = 2 ** Math.ceil(Math.log2(Math.max((scored * vocabulary) / logits, 1)))
  return Math.min(wanted, Math.ceil(vocabulary / HEAD_LEAST_PART))
}

/** What an engine needs to know to be chosen: weights, and activations of the tokens that run at once. */
export function engineDemand(request: MemoryRequest): EngineDemand {
  const { config, parameters } = request
  const most = MICRO_BATCH_TOKENS * bytesPerToken(config, 1)
  return {
    parameters,
    hasExperts: config.moe !== null,
    bytes: residentBytes(request) - PROCESS_BYTES + Math.min(Math.max(activationBytes(request), 0), most),
  }
}

/** The smallest limit, in bytes, under which so many bytes are left beside what stays. */
function leastLimit(request: MemoryRequest, bytes: number): number {
  const logits = LOGIT_COPIES * FLOAT_BYTES * HEAD_LOGITS
  const rest = residentBytes({ ...request, limitBytes: undefined }) - logits + bytes
  // The logits take a share of the limit, and no more than they can use.
  return Math.min((rest + logits) / (1 - MEMORY_RESERVE), rest / (1 - MEMORY_RESERVE - HEAD_SHARE))
}

/** Logits that may exist at once. */
function headLogits({ limitBytes = Infinity }: MemoryRequest): number {
  return Math.min(HEAD_LOGITS, Math.floor((HEAD_SHARE * limitBytes) / (LOGIT_COPIES * FLOAT_BYTES)))
}

function segmentRange({ config, checkpointing = 'auto' }: MemoryRequest): { least: number; most: number } {
  if (checkpointing === false) return { least: 1, most: 1 }
  return { least: checkpointing === true ? config.layers : 1, most: config.layers }
}

/** Of a token in the largest segment, what each segment begins with, and its smallest part of the vocabulary. */
function bytesPerToken(config: ModelConfig, segments: number): number {
  const layers = Math.ceil(config.layers / segments)
  const part = LOGIT_COPIES * FLOAT_BYTES * Math.min(config.vocabSize, HEAD_LEAST_PART)
  return layers * activationBytesPerLayer(config) + (segments - 1) * FLOAT_BYTES * config.hiddenSize + part
}

function activationBytes(request: MemoryRequest): number {
  const { limitBytes } = request
  if (limitBytes === undefined) return DEFAULT_ACTIVATION_BYTES
  return limitBytes * (1 - MEMORY_RESERVE) - residentBytes(request)
}

/** MB of 2^20 bytes, rounded up: as limits are given and messages say them. */
export function megabytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20)
}
