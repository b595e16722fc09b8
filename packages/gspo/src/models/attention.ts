/** Attention cores: over prompts shared by groups of completions, in training and over a KV cache. */
import { addDims, mulDims, type Dim } from '../graph/dims.ts'
import type { GraphBuilder } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import type { ModelConfig } from './model-config.ts'
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

/**
 * Sizes of a decoding step: B blocks of G rows each that share a prompt, Q new tokens a row, N places for the prompt and
 * M for what came after it.
 */
export interface CacheDims {
  readonly blocks: Dim
  readonly members: Dim
  readonly queries: Dim
  readonly promptPlaces: Dim
  readonly places: Dim
}

/** The cache of one layer, owned and filled by the caller. */
export interface LayerCache {
  /** [B, kvHeads, N, size] */
  readonly promptKeys: Tensor
  readonly promptValues: Tensor
  /** [B, kvHeads, G, M, size] */
  readonly keys: Tensor
  readonly values: Tensor
}

/**
 * Attention of new tokens over three parts, joined in the softmax: their block's prompt, of which there is one copy that
 * all its rows see in one product; what their row has in the cache; and one another. The cache is read and never copied.
 * Tokens: [B * G * Q]. `masksOf` gives [B, 1, G, 1, Q, N + M + Q]; `onNew` is handed the new keys and values
 * [B, kvHeads, G, Q, size] of each layer.
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
  const { blocks, members, queries, promptPlaces, places } = dims
  const alpha = 1 / Math.sqrt(headSize)
  const rowQueries = mulDims(share, queries)
  const known = addDims(promptPlaces, places)
  const seen = addDims(known, queries)
  const perRow = (last: Dim): Dim[] => [blocks, kvHeads, members, rowQueries, last]
  const perBlock = (last: Dim): Dim[] => [blocks, kvHeads, mulDims(members, rowQueries), last]
  const perQuery = (last: Dim): Dim[] => [blocks, kvHeads, members, share, queries, last]

  /** Tokens [B * G * Q, heads * size] to [B, kvHeads, G, perKv * Q, size]. */
  const toHeads = (x: Tensor, perKv: number): Tensor =>
    g.reshape(
      g.transpose(g.reshape(x, [blocks, members, queries, kvHeads, perKv, headSize]), [0, 3, 1, 4, 2, 5]),
      [blocks, kvHeads, members, mulDims(perKv, queries), headSize],
    )
  return (layer, heads) => {
    const cache = cacheOf(layer)
    const q = toHeads(heads.q, share)
    const keys = toHeads(heads.k, 1)
    const values = toHeads(heads.v, 1)
    onNew(layer, keys, values)
    const together = g.reshape(q, perBlock(headSize))
    const promptScores = g.matmul(together, cache.promptKeys, { transB: true, alpha })
    const scores = g.concat(
      [
        g.reshape(promptScores, perRow(promptPlaces)),
        g.matmul(q, cache.keys, { transB: true, alpha }),
        g.matmul(q, keys, { transB: true, alpha }),
      ],
      4,
    )
    const weights = g.reshape(
      g.softmax(g.add(g.reshape(scores, perQuery(seen)), masksOf(layer))),
      perRow(seen),
    )
    const promptWeights = g.reshape(g.slice(weights, 4, 0, promptPlaces), perBlock(promptPlaces))
    const mixed = g.add(
      g.reshape(g.matmul(promptWeights, cache.promptValues), perRow(headSize)),
      g.add(
        g.matmul(g.slice(weights, 4, promptPlaces, known), cache.values),
        g.matmul(g.slice(weights, 4, known, seen), values),
      ),
    )
    return g.reshape(g.transpose(g.reshape(mixed, perQuery(headSize)), [0, 2, 4, 1, 3, 5]), [
      mulDims(blocks, members, queries),
      config.heads * headSize,
    ])
  }
}
