/** The graph that trains every weight by next-token cross-entropy: weights are one flat input, as the adapter is. */
import { mulDims } from '../graph/dims.ts'
import { gradients } from '../graph/gradient.ts'
import { GraphBuilder, type Graph } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import type { ModelConfig } from './model-config.ts'
import { targetsInput } from './head.ts'
import { headWeight, type LayerContext } from './layers.ts'
import { ONE_PART, scoredRows, type BatchShape } from './training-graph.ts'

/** One weight in the flat vector. */
export interface FullTensor {
  /** As in a checkpoint, e.g. model.layers.0.self_attn.q_proj.weight */
  readonly name: string
  readonly shape: readonly number[]
  readonly offset: number
}

/** All weights of a model in one vector, sorted by name in code-unit order. */
export interface FullLayout {
  readonly tensors: readonly FullTensor[]
  readonly length: number
}

/** Name of the flat weight input. */
export const WEIGHTS_INPUT = 'weights'

/** The weights that a model of this configuration has; a tied matrix is one tensor. */
export function fullLayout(config: ModelConfig): FullLayout {
  const shapes = new Map<string, readonly number[]>()
  const g = new GraphBuilder()
  buildLogits(g, config, ONE_PART, (name, shape) => {
    shapes.set(name, shape)
    return g.input(name, shape)
  })
  let length = 0
  const tensors = [...shapes]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, shape]) => {
      const tensor = { name, shape, offset: length }
      length += sizeOf(shape)
      return tensor
    })
  return { tensors, length }
}

/**
 * Outputs `loss`, the mean cross-entropy over the scored tokens, and `gradient`, flat in the layout's order.
 * Inputs as of the scoring graph, with the weights instead of an adapter, and token_weights [N].
 */
export function fullGraph(config: ModelConfig, layout: FullLayout, shape: BatchShape): Graph {
  const g = new GraphBuilder()
  const flat = g.input(WEIGHTS_INPUT, [layout.length])
  const byName = new Map(
    layout.tensors.map(({ name, shape, offset }) => {
      return [name, g.reshape(g.slice(flat, 0, offset, offset + sizeOf(shape)), shape)] as const
    }),
  )
  const logits = buildLogits(g, config, shape, (name, size) => byName.get(name) ?? g.input(name, size))
  // log softmax by the shifted exponentials: the shift takes no part in the gradient.
  const shift = g.stopGradient(g.maximum(logits, [1], true))
  const partition = g.add(g.unary('log', g.sum(g.unary('exp', g.sub(logits, shift)), [1], true)), shift)
  const targets = targetsInput(g)
  const negative = g.sub(partition, g.pick(logits, g.reshape(targets, [...targets.shape, 1])))
  const loss = g.sum(
    g.mul(negative, g.reshape(g.input('token_weights', targets.shape), [...targets.shape, 1])),
    [0, 1],
  )
  const parts = gradients(g, loss, [...byName.values()]).map((gradient) =>
    g.reshape(gradient, [mulDims(...gradient.shape)]),
  )
  return g.finish({ loss, gradient: g.concat(parts, 0) })
}

function buildLogits(
  g: GraphBuilder,
  config: ModelConfig,
  shape: BatchShape,
  weight: LayerContext['weight'],
): Tensor {
  const adapter = { scale: 0, all: [], of: () => undefined }
  const context: LayerContext = { g, config, weight, adapter }
  const { hidden } = scoredRows(context, shape)
  return g.matmul(hidden, headWeight(context), { transB: true })
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}
