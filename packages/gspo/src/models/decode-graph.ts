/** The decoding graph: new tokens against a KV cache that the caller owns; prefill is the same graph with more tokens. */
import { addDims, mulDims } from '../graph/dims.ts'
import { GraphBuilder, type Graph } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import { cachedAttention, type CacheDims } from './attention.ts'
import { decoderStack } from './decoder.ts'
import { adapterMatrices, embed, frozenWeights, headWeight, type LayerContext } from './layers.ts'
import type { ModelSource } from './training-graph.ts'

const DIMS: CacheDims = { rows: 'R', queries: 'Q', cached: 'M' }

/** Names of a layer's cache inputs. */
export function cacheNames(layer: number): { keys: string; values: string } {
  return { keys: `keys_${layer}`, values: `values_${layer}` }
}

/** Outputs `probabilities` [R, vocab]; inputs logits [R, vocab] and inverse_temperature. */
export function probabilityGraph(vocabSize: number): Graph {
  const g = new GraphBuilder()
  const logits = g.mul(g.input('logits', ['R', vocabSize]), g.input('inverse_temperature', []))
  return g.finish({ probabilities: g.softmax(logits) })
}

/** Name of the mask input of a sliding-window size. */
export function stepMaskName(window: number | null): string {
  return window === null ? 'mask_full' : `mask_window${window}`
}

/**
 * Outputs `logits` [R, vocab] of each row's last token and `cache` [2 * layers, R, kvHeads, Q, size]: the new
 * tokens' keys and values, layer by layer, keys first.
 * Inputs: ids [R, Q], positions [R * Q, 1], cos and sin, masks [R, 1, 1, Q, M + Q], keys_i and values_i, adapter.
 */
export function decodeGraph(source: ModelSource): Graph {
  const g = new GraphBuilder()
  const { config, checkpoint } = source
  const context: LayerContext = {
    g,
    config,
    weight: frozenWeights(g, checkpoint),
    adapter: adapterMatrices(g, source.layout, source.lora),
  }
  const { rows, queries, cached } = DIMS
  const tokens = mulDims(rows, queries)
  const ids = g.reshape(g.input('ids', [rows, queries], 'i32'), [tokens])
  const half = Math.floor(config.headSize * config.rope.partialFactor) / 2
  const rope = {
    positions: g.input('positions', [tokens, 1], 'i32'),
    cos: g.input('cos', ['K', half]),
    sin: g.input('sin', ['K', half]),
  }
  const cacheShape = [rows, config.kvHeads, cached, config.headSize]
  const fresh: Tensor[] = []
  const attend = cachedAttention(
    g,
    config,
    DIMS,
    (layer) => {
      const names = cacheNames(layer)
      return { keys: g.input(names.keys, cacheShape), values: g.input(names.values, cacheShape) }
    },
    (layer) => {
      const name = stepMaskName(config.windows[layer] ?? null)
      return g.input(name, [rows, 1, 1, queries, addDims(cached, queries)])
    },
    (_layer, keys, values) => fresh.push(keys, values),
  )
  const { hidden } = decoderStack(context, embed(context, ids), rope, attend)
  const last = g.gatherRows(hidden, g.input('last_rows', [rows], 'i32'))
  const logits = g.matmul(last, headWeight(context, 'decode-head'), { transB: true })
  const cache = g.concat(
    fresh.map((part) => g.reshape(part, [1, ...part.shape])),
    0,
  )
  return g.finish({ logits, cache })
}
