/** Attention cores: over prompts shared by groups of completions (training), and over a KV cache (decoding). */
import { addDims, mulDims, type Dim } from '../graph/dims.ts'
import type { GraphBuilder } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import type { ModelConfig } from './config.ts'
import type { AttentionCore } from './decoder.ts'

/** Sizes of a batch of groups: R prompts of P tokens, G completions of C tokens each. */
export interface GroupDims {
  readonly prompts: Dim
  readonly group: Dim
  readonly promptLength: Dim
  readonly completionLength: Dim
}

/** Additive masks of one sliding-window size: 0 where a query sees a key, the lowest float where not. */
export interface GroupMasks {
  /** [R, 1, 1, P, P] */
  readonly prompt: Tensor
  /** [R, 1, G, 1, C, P + C] */
  readonly completion: Tensor
}

/**
 * Attention where the completions of a group see their prompt, which is computed once, and themselves.
 * Tokens: all prompts [R * P], then all completions [R * G * C].
 */
export function groupAttention(
  g: GraphBuilder,
  config: ModelConfig,
  dims: GroupDims,
  masksOf: (layer: number) => GroupMasks,
): AttentionCore {
  const { kvHeads, headSize } = config
  const share = config.heads / kvHeads
  const { prompts, group, promptLength, completionLength } = dims
  const promptTokens = mulDims(prompts, promptLength)
  const completionTokens = mulDims(prompts, group, completionLength)
  const total = addDims(promptTokens, completionTokens)
  const alpha = 1 / Math.sqrt(headSize)
  const groupRows = mulDims(group, share, completionLength)
  const ownRows = mulDims(share, completionLength)
  const seen = addDims(promptLength, completionLength)

  /** Tokens [R * L, heads * size] to [R, kvHeads, (share,) L, size]. */
  const promptHeads = (x: Tensor, perKv: number): Tensor =>
    g.reshape(g.transpose(g.reshape(x, [prompts, promptLength, kvHeads, perKv, headSize]), [0, 2, 3, 1, 4]), [
      prompts,
      kvHeads,
      mulDims(perKv, promptLength),
      headSize,
    ])
  /** Tokens [R * G * L, heads * size] to [R, kvHeads, G, (share,) L, size]. */
  const completionHeads = (x: Tensor, perKv: number): Tensor =>
    g.reshape(
      g.transpose(
        g.reshape(x, [prompts, group, completionLength, kvHeads, perKv, headSize]),
        [0, 3, 1, 4, 2, 5],
      ),
      [prompts, kvHeads, group, mulDims(perKv, completionLength), headSize],
    )

  return (layer, heads) => {
    const masks = masksOf(layer)
    const split = (x: Tensor): [Tensor, Tensor] => [
      g.slice(x, 0, 0, promptTokens),
      g.slice(x, 0, promptTokens, total),
    ]
    const [qPrompt, qOwn] = split(heads.q)
    const [kPrompt, kOwn] = split(heads.k)
    const [vPrompt, vOwn] = split(heads.v)
    const promptKeys = promptHeads(kPrompt, 1)
    const promptValues = promptHeads(vPrompt, 1)

    const promptScores = g.matmul(promptHeads(qPrompt, share), promptKeys, { transB: true, alpha })
    const promptShape = [prompts, kvHeads, share, promptLength, promptLength]
    const promptWeights = g.softmax(g.add(g.reshape(promptScores, promptShape), masks.prompt))
    const promptMixed = g.matmul(g.reshape(promptWeights, promptScores.shape), promptValues)
    const promptOut = g.reshape(
      g.transpose(g.reshape(promptMixed, [prompts, kvHeads, share, promptLength, headSize]), [0, 3, 1, 2, 4]),
      [promptTokens, config.heads * headSize],
    )

    const queries = completionHeads(qOwn, share)
    const folded = g.reshape(queries, [prompts, kvHeads, groupRows, headSize])
    const crossScores = g.matmul(folded, promptKeys, { transB: true, alpha })
    const ownScores = g.matmul(queries, completionHeads(kOwn, 1), { transB: true, alpha })
    const scoreShape = (last: Dim): Dim[] => [prompts, kvHeads, group, share, completionLength, last]
    const scores = g.concat(
      [g.reshape(crossScores, scoreShape(promptLength)), g.reshape(ownScores, scoreShape(completionLength))],
      5,
    )
    const weights = g.softmax(g.add(scores, masks.completion))
    const crossWeights = g.reshape(g.slice(weights, 5, 0, promptLength), crossScores.shape)
    const ownWeights = g.reshape(g.slice(weights, 5, promptLength, seen), ownScores.shape)
    const ownShape = [prompts, kvHeads, group, ownRows, headSize]
    const mixed = g.add(
      g.reshape(g.matmul(crossWeights, promptValues), ownShape),
      g.matmul(ownWeights, completionHeads(vOwn, 1)),
    )
    const ownOut = g.reshape(
      g.transpose(
        g.reshape(mixed, [prompts, kvHeads, group, share, completionLength, headSize]),
        [0, 2, 4, 1, 3, 5],
      ),
      [completionTokens, config.heads * headSize],
    )
    return g.concat([promptOut, ownOut], 0)
  }
}

/** Sizes of a decoding step: R rows, Q new tokens each, M places in the cache. */
export interface CacheDims {
  readonly rows: Dim
  readonly queries: Dim
  readonly cached: Dim
}

/** The cache of one layer: [R, kvHeads, M, size], owned and filled by the caller. */
export interface LayerCache {
  readonly keys: Tensor
  readonly values: Tensor
}

/**
 * Two-part attention: new tokens see the cache and one another, joined in the softmax, so that the cache is read
 * and never copied. `masksOf` gives [R, 1, 1, Q, M + Q]; `onNew` is handed the new keys and values
 * [R, kvHeads, Q, size] of each layer.
 */
export function cachedAttention(
  g: GraphBuilder,
  config: ModelConfig,
  dims: CacheDims,
  cacheOf: (layer: number) => LayerCache,
  masksOf: (layer: number) => Tensor,
  onNew: (layer: number, keys: Tensor, values: Tensor) => void,
): AttentionCore {
  const { kvHeads, headSize } = config
  const share = config.heads / kvHeads
  const { rows, queries, cached } = dims
  const alpha = 1 / Math.sqrt(headSize)
  const seen = addDims(cached, queries)
  const toHeads = (x: Tensor, perKv: number): Tensor =>
    g.reshape(g.transpose(g.reshape(x, [rows, queries, kvHeads, perKv, headSize]), [0, 2, 3, 1, 4]), [
      rows,
      kvHeads,
      mulDims(perKv, queries),
      headSize,
    ])
  return (layer, heads) => {
    const cache = cacheOf(layer)
    const q = toHeads(heads.q, share)
    const keys = toHeads(heads.k, 1)
    const values = toHeads(heads.v, 1)
    onNew(layer, keys, values)
    const oldScores = g.matmul(q, cache.keys, { transB: true, alpha })
    const newScores = g.matmul(q, keys, { transB: true, alpha })
    const scoreShape = [rows, kvHeads, share, queries, seen]
    const scores = g.reshape(g.concat([oldScores, newScores], 3), scoreShape)
    const weights = g.reshape(g.softmax(g.add(scores, masksOf(layer))), [
      rows,
      kvHeads,
      mulDims(share, queries),
      seen,
    ])
    const mixed = g.add(
      g.matmul(g.slice(weights, 3, 0, cached), cache.values),
      g.matmul(g.slice(weights, 3, cached, seen), values),
    )
    return g.reshape(
      g.transpose(g.reshape(mixed, [rows, kvHeads, share, queries, headSize]), [0, 3, 1, 2, 4]),
      [mulDims(rows, queries), config.heads * headSize],
    )
  }
}
