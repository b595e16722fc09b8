/** The parts that every decoder here shares: linear layers with LoRA, norms, rotary embedding, feed-forward. */
import type { GraphBuilder } from '../graph/graph.ts'
import { dimOf } from '../graph/graph.ts'
import { mulDims } from '../graph/dims.ts'
import type { Tensor } from '../graph/ops.ts'
import { loraScale, loraTensorName, type AdapterLayout, type LoraConfig } from '../lora.ts'
import type { Checkpoint, WeightUse } from '../weights/checkpoint.ts'
import type { ModelConfig } from './model-config.ts'
import type { FeedForwardNames } from './modules.ts'

/** Builds layers of one model into one graph. */
export interface LayerContext {
  readonly g: GraphBuilder
  readonly config: ModelConfig
  readonly adapter: AdapterMatrices
  /** A weight of the model by its name in the checkpoint; throws when there is none of that shape. */
  readonly weight: (name: string, shape: readonly number[], use?: WeightUse) => Tensor
}

/** Weights that stay frozen in the checkpoint's files. */
export function frozenWeights(g: GraphBuilder, checkpoint: Checkpoint): LayerContext['weight'] {
  return (name, shape, use) => g.weight(checkpoint.get(name, shape, use))
}

/** The adapter inside a graph: one flat input, cut into matrices. */
export interface AdapterMatrices {
  readonly scale: number
  /** All matrices in the layout's order. */
  readonly all: readonly Tensor[]
  /** A and B of a module, or undefined where it has no LoRA. */
  of(module: string): { a: Tensor; b: Tensor } | undefined
}

/** The name of the flat adapter input. */
export const ADAPTER_INPUT = 'adapter'

/** Cuts the flat adapter input into its matrices. */
export function adapterMatrices(g: GraphBuilder, layout: AdapterLayout, lora: LoraConfig): AdapterMatrices {
  const flat = g.input(ADAPTER_INPUT, [layout.length])
  const byName = new Map(
    layout.tensors.map(({ name, shape, offset }) => {
      const part = g.slice(flat, 0, offset, offset + shape[0] * shape[1])
      return [name, g.reshape(part, shape)] as const
    }),
  )
  return {
    scale: loraScale(lora),
    all: [...byName.values()],
    of: (module) => {
      const a = byName.get(loraTensorName(module, 'A'))
      const b = byName.get(loraTensorName(module, 'B'))
      return a === undefined || b === undefined ? undefined : { a, b }
    },
  }
}

/** The adapter as one input a matrix, by its name in the layout: nothing is cut or copied at a run. */
export function separateMatrices(g: GraphBuilder, layout: AdapterLayout, lora: LoraConfig): AdapterMatrices {
  const byName = new Map(layout.tensors.map(({ name, shape }) => [name, () => g.input(name, shape)] as const))
  return {
    scale: loraScale(lora),
    all: [...byName.values()].map((input) => input()),
    of: (module) => {
      const a = byName.get(loraTensorName(module, 'A'))
      const b = byName.get(loraTensorName(module, 'B'))
      return a === undefined || b === undefined ? undefined : { a: a(), b: b() }
    },
  }
}

/** y = x W^T (+ bias) (+ s (x A^T) B^T) for x [T, in]. */
export function linear(
  { g, weight, adapter }: LayerContext,
  module: string,
  x: Tensor,
  outSize: number,
  hasBias = false,
): Tensor {
  const inSize = dimOf(x, 1)
  const matrix = weight(`${module}.weight`, [outSize, Number(inSize)], 'matrix')
  let y = g.matmul(x, matrix, { transB: true })
  if (hasBias) y = g.add(y, weight(`${module}.bias`, [outSize]))
  const lora = adapter.of(module)
  if (lora === undefined) return y
  const low = g.matmul(x, lora.a, { transB: true })
  return g.add(y, g.matmul(low, lora.b, { transB: true, alpha: adapter.scale }))
}

/** RMSNorm with the weight of `module`, which is around 1 or, in some families, around 0. */
export function norm({ g, config, weight }: LayerContext, module: string, x: Tensor): Tensor {
  const stored = weight(`${module}.weight`, [Number(x.shape.at(-1))])
  const scale = config.zeroCentredNorms ? g.add(stored, g.constant(1)) : stored
  return g.rmsNorm(x, scale, config.normEpsilon)
}

/** x sigmoid(x) */
export function silu(g: GraphBuilder, x: Tensor): Tensor {
  return g.mul(x, g.unary('sigmoid', x))
}

/** Rotary embedding's inputs: a position for each token, and tables of cosine and sine. */
export interface RopeInputs {
  /** [T, 1]: the engine's kernel allows no more tokens in a row than the tables have positions. */
  readonly positions: Tensor
  /** [positions, pairs] */
  readonly cos: Tensor
  readonly sin: Tensor
}

/**
 * Queries, keys and values of T tokens, rotated: q [T, heads * size], k and v [T, kvHeads * size]; and the gate on
 * what attention gives, as wide as q, where the family has one.
 */
export function projectHeads(
  context: LayerContext,
  module: string,
  x: Tensor,
  rope: RopeInputs,
): { q: Tensor; k: Tensor; v: Tensor; gate: Tensor | undefined } {
  const { g, config } = context
  const tokens = dimOf(x, 0)
  const { heads, kvHeads, headSize } = config
  const project = (name: string, width: number): Tensor =>
    linear(context, `${module}.${name}_proj`, x, width, config.qkvBias)
  const rotate = (y: Tensor, name: string, count: number): Tensor => {
    const width = count * headSize
    const normed = config.qkNorm
      ? norm(context, `${module}.${name}_norm`, g.reshape(y, [mulDims(tokens, count), headSize]))
      : y
    const turned = g.rope(g.reshape(normed, [tokens, 1, width]), rope.positions, rope.cos, rope.sin, count)
    return g.reshape(turned, [tokens, width])
  }
  const queryWidth = heads * headSize
  /** q_proj gives each head its query and then its gate. */
  const half = (both: Tensor, start: number): Tensor =>
    g.reshape(g.slice(g.reshape(both, [tokens, heads, 2 * headSize]), 2, start, start + headSize), [
      tokens,
      queryWidth,
    ])
  const queries = project('q', config.attentionGate ? 2 * queryWidth : queryWidth)
  return {
    q: rotate(config.attentionGate ? half(queries, 0) : queries, 'q', heads),
    k: rotate(project('k', kvHeads * headSize), 'k', kvHeads),
    v: project('v', kvHeads * headSize),
    gate: config.attentionGate ? half(queries, headSize) : undefined,
  }
}

/** down(silu(gate(x)) * up(x)) */
export function gatedFeedForward(
  context: LayerContext,
  names: FeedForwardNames,
  x: Tensor,
  innerSize: number,
): Tensor {
  const { g, config } = context
  const gate = linear(context, names.gate, x, innerSize, config.mlpBias)
  const up = linear(context, names.up, x, innerSize, config.mlpBias)
  const active = g.mul(silu(g, gate), up)
  return linear(context, names.down, active, config.hiddenSize, config.mlpBias)
}

/** Rows of the embedding matrix for ids [T]. */
export function embed({ g, config, weight }: LayerContext, ids: Tensor): Tensor {
  return g.gatherRows(weight(EMBEDDING, [config.vocabSize, config.hiddenSize]), ids)
}

/** The head's matrix [vocab, hidden]: its own, or the embedding's when tied. */
export function headWeight(
  { config, weight }: LayerContext,
  use: 'matrix' | 'decode-head' = 'matrix',
): Tensor {
  return weight(headName(config), [config.vocabSize, config.hiddenSize], use)
}

/** The head's name in the checkpoint. */
export function headName(config: ModelConfig): string {
  return config.tiedHead ? EMBEDDING : 'lm_head.weight'
}

const EMBEDDING = 'model.embed_tokens.weight'
