/** The decoding graph: new tokens against a KV cache that the caller owns; prefill is the same graph with more tokens. */
import { addDims, mulDims } from '../graph/dims.ts'
import { GraphBuilder, type Graph } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import { cachedAttention, type CacheDims } from './attention.ts'
import { decoderStack, type TokenMixers } from './decoder.ts'
import { embed, frozenWeights, headWeight, separateMatrices, type LayerContext } from './layers.ts'
import { keptLinear } from './linear-core.ts'
import { linearSizes } from './modules.ts'
import { LINEAR_INPUTS, type ModelSource } from './training-graph.ts'

const DIMS: CacheDims = { blocks: 'B', members: 'G', queries: 'Q', promptPlaces: 'N', places: 'M' }

/** Rows that run through the layers, in blocks. */
const SLOTS = mulDims(DIMS.blocks, DIMS.members)

/** Names of a layer's inputs with keys and values of tokens before: of the prompt, and of what came after it. */
export function cacheNames(
  layer: number,
): Readonly<Record<'prompt' | 'own', { readonly keys: string; readonly values: string }>> {
  return {
    prompt: { keys: `prompt_keys_${layer}`, values: `prompt_values_${layer}` },
    own: { keys: `keys_${layer}`, values: `values_${layer}` },
  }
}

/** Names of a linear attention layer's state: inputs, and outputs with `next_` before them. */
export function stateNames(layer: number): { recent: string; memory: string } {
  return { recent: `recent_${layer}`, memory: `memory_${layer}` }
}

/** Name of the levels input of linear attention; a run then takes `CHUNK_TOKENS` new tokens at most. */
export const LEVELS_INPUT = 'levels'

/** Outputs `probabilities` [R, vocab]; inputs logits [R, vocab] and inverse_temperature. */
export function probabilityGraph(vocabSize: number): Graph {
  const g = new GraphBuilder()
  const logits = g.mul(g.input('logits', ['R', vocabSize]), g.input('inverse_temperature', []))
  return g.finish({ probabilities: g.softmax(logits) })
}

/** Largest and smallest part that a vocabulary is summed in: short walks, few sums. */
const PART_TOKENS = { most: 1024, least: 32 }

/** Tokens of the equal parts that a vocabulary divides into; undefined where none fit. */
export function vocabularyPart(vocabSize: number): number | undefined {
  for (let size = PART_TOKENS.most; size >= PART_TOKENS.least; size--) if (vocabSize % size === 0) return size
  return undefined
}

/**
 * What drawing a token needs: outputs `largest` [R], each row's largest logit, and `sums` [R, vocab / part], the sums of
 * exp((logit - largest) * inverse_temperature) over parts of the vocabulary. Inputs as of `probabilityGraph`.
 */
export function partSumsGraph(vocabSize: number, part: number): Graph {
  const g = new GraphBuilder()
  const logits = g.reshape(g.input('logits', ['R', vocabSize]), ['R', vocabSize / part, part])
  const largest = g.maximum(g.maximum(logits, [2], true), [1], true)
  const scaled = g.mul(g.sub(logits, largest), g.input('inverse_temperature', []))
  return g.finish({ largest: g.reshape(largest, ['R']), sums: g.sum(g.unary('exp', scaled), [2]) })
}

/** Name of the mask input of a sliding-window size. */
export function stepMaskName(window: number | null): string {
  return window === null ? 'mask_full' : `mask_window${window}`
}

/**
 * New tokens of B blocks of G rows each, whose prompt is the same: see `CacheDims`. Outputs `logits` [R, vocab] of the
 * tokens that `last_rows` picks and `cache` [2 * layers, B, kvHeads, G, Q, size]: the new tokens' keys and values, layer by
 * layer of those with softmax attention, keys first; for each layer of linear attention
 * next_recent_i [B * G, kernel - 1, channels] and next_memory_i [B * G, valueHeads, keySize, valueSize].
 * Inputs: ids [B * G, Q], positions [B * G * Q, 1], last_rows [R], cos and sin, masks [B, 1, G, 1, Q, N + M + Q], the keys and
 * values of each layer by `cacheNames`, the adapter's matrices by name; with linear attention recent_i and memory_i,
 * is_token [B * G * Q, 1] and levels [Q, Q].
 */
export function decodeGraph(source: ModelSource): Graph {
  const g = new GraphBuilder()
  const { config, checkpoint } = source
  const context: LayerContext = {
    g,
    config,
    weight: frozenWeights(g, checkpoint),
    adapter: separateMatrices(g, source.layout, source.lora),
  }
  const { blocks, members, queries, promptPlaces, places } = DIMS
  const tokens = mulDims(SLOTS, queries)
  const ids = g.reshape(g.input('ids', [SLOTS, queries], 'i32'), [tokens])
  const half = Math.floor(config.headSize * config.rope.partialFactor) / 2
  const rope = {
    positions: g.input('positions', [tokens, 1], 'i32'),
    cos: g.input('cos', ['K', half]),
    sin: g.input('sin', ['K', half]),
  }
  const promptShape = [blocks, config.kvHeads, promptPlaces, config.headSize]
  const ownShape = [blocks, config.kvHeads, members, places, config.headSize]
  const fresh: Tensor[] = []
  const attend = cachedAttention(
    g,
    config,
    DIMS,
    (layer) => {
      const { prompt, own } = cacheNames(layer)
      return {
        promptKeys: g.input(prompt.keys, promptShape),
        promptValues: g.input(prompt.values, promptShape),
        keys: g.input(own.keys, ownShape),
        values: g.input(own.values, ownShape),
      }
    },
    (layer) => {
      const name = stepMaskName(config.windows[layer] ?? null)
      const seen = addDims(addDims(promptPlaces, places), queries)
      return g.input(name, [blocks, 1, members, 1, queries, seen])
    },
    (_layer, keys, values) => fresh.push(keys, values),
  )
  const states: Record<string, Tensor> = {}
  const recur = keptRecurrence(context, states)
  const { hidden } = decoderStack(context, embed(context, ids), rope, { attend, recur })
  const last = g.gatherRows(hidden, g.input('last_rows', ['R'], 'i32'))
  const logits = g.matmul(last, headWeight(context, 'decode-head'), { transB: true })
  const cache = g.concat(
    fresh.map((part) => g.reshape(part, [1, ...part.shape])),
    0,
  )
  return g.finish({ logits, cache, ...states })
}

/** The mixer of linear attention layers, which adds what they leave behind to `states`; null for models without. */
function keptRecurrence(context: LayerContext, states: Record<string, Tensor>): TokenMixers['recur'] {
  const { g, config } = context
  const { linear } = config
  if (linear === null) return null
  const { queries } = DIMS
  const core = keptLinear(
    context,
    linear,
    { rows: SLOTS, chunks: 1, chunkLength: queries, levels: g.input(LEVELS_INPUT, [queries, queries]) },
    (layer) => {
      const names = stateNames(layer)
      return {
        recent: g.input(names.recent, [SLOTS, linear.kernel - 1, linearSizes(linear).channels]),
        memory: g.input(names.memory, [SLOTS, linear.valueHeads, linear.keySize, linear.valueSize]),
      }
    },
    (layer, { recent, memory }) => {
      const names = stateNames(layer)
      states[`next_${names.recent}`] = recent
      states[`next_${names.memory}`] = memory
    },
  )
  return { core, isToken: g.input(LINEAR_INPUTS.isToken, [mulDims(SLOTS, queries), 1]) }
}
