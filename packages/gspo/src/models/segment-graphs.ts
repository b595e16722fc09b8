/**
 * Training in segments of layers (activation recompute, arXiv 1604.06174): only what goes from one segment into the next
 * is kept of the forward pass, and each segment's inside is computed again when its gradient is. Every operation is the
 * one of the graph in one piece, so the numbers are too. Loads of experts are summed on the way from segment to segment.
 */
import { gradients } from '../graph/gradient.ts'
import { GraphBuilder, type Graph } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import type { AdapterLayout } from '../lora.ts'
import { decoderLayers, lastNorm, type LayerRange, type StackOutput } from './decoder.ts'
import { frozenWeights, separateMatrices, type LayerContext } from './layers.ts'
import type { LossVariant } from './loss.ts'
import type { LoadSums } from './moe.ts'
import {
  joinGradients,
  layerLoads,
  layerOf,
  policyLossOf,
  predictingRows,
  stackInputs,
  withBalance,
  type BatchShape,
  type ModelSource,
} from './training-graph.ts'

/** Names of what goes from segment to segment, [T, hidden] each. */
export const HIDDEN = {
  input: 'hidden',
  output: 'next_hidden',
  upstream: 'upstream',
  gradient: 'hidden_gradient',
}

/**
 * Names of the loads of experts, [experts] each: of the layers before a segment, of these and its own, and tokens sent
 * in all layers.
 */
export const LOADS = {
  before: { sent: 'sent_before', expected: 'expected_before' },
  sums: { sent: 'sent_sum', expected: 'expected_sum' },
  allSent: 'sent_in_all',
}

/** Layers in `count` segments of nearly equal size; the last ones are the smaller, for the head is theirs. */
export function splitLayers(layers: number, count: number): LayerRange[] {
  const size = Math.ceil(layers / count)
  return Array.from({ length: Math.ceil(layers / size) }, (_, index) => ({
    first: index * size,
    end: Math.min((index + 1) * size, layers),
  }))
}

/** Indices into the layout of the matrices of some layers. */
export function tensorsOf({ tensors }: AdapterLayout, { first, end }: LayerRange): number[] {
  return tensors.flatMap(({ name }, index) => {
    const layer = layerOf(name)
    return layer >= first && layer < end ? [index] : []
  })
}

/**
 * Outputs `next_hidden`, and when balanced the loads so far. Inputs as of the scoring graph, `hidden` instead of ids and
 * the loads before after the first segment.
 */
export function segmentForwardGraph(
  source: ModelSource,
  shape: BatchShape,
  range: LayerRange,
  isBalanced = false,
): Graph {
  const { segment, context } = beginSegment(source, shape, range)
  const loads = isBalanced
    ? layerLoads(context, shape, segment.routings, loadsBefore(context, range))
    : undefined
  return context.g.finish({ [HIDDEN.output]: segment.hidden, ...sumsOf(loads) })
}

/**
 * Outputs `gradient` of the segment's matrices, flat and in their order, `hidden_gradient` after the first segment, and
 * `expert_tokens` where layers have experts. Inputs as of the forward graph, `upstream`, the gradient of `next_hidden`,
 * and when balanced `sent_in_all` and balance.
 */
export function segmentBackwardGraph(
  source: ModelSource,
  shape: BatchShape,
  range: LayerRange,
  isBalanced = false,
): Graph {
  const { segment, context, input } = beginSegment(source, shape, range)
  const { g } = context
  const product = g.mul(segment.hidden, g.input(HIDDEN.upstream, segment.hidden.shape))
  // What other layers expect changes nothing for these; what they were sent weighs it.
  const own = isBalanced ? layerLoads(context, shape, segment.routings) : undefined
  const loads = own === undefined ? undefined : { ...own, sent: g.input(LOADS.allSent, own.sent.shape) }
  const scalar = withBalance(context, g.sum(product, [0, 1]), loads)
  return g.finish(outputsOf(context, scalar, segment, input, range, source))
}

/**
 * The last segment with head and loss: outputs as of the backward graph, and `loss`, `logps`, `entropies`, when balanced
 * the loads. Inputs as of the graph in one piece, with `hidden` instead of ids and the loads before.
 */
export function lastSegmentGraph(
  source: ModelSource,
  variant: LossVariant,
  shape: BatchShape,
  range: LayerRange,
): Graph {
  const { segment, context, input } = beginSegment(source, shape, range)
  const scored = predictingRows(context, lastNorm(context, segment.hidden))
  const policy = policyLossOf(context, scored, variant, shape)
  const { logps, entropies } = policy
  const loads = variant.isBalanced
    ? layerLoads(context, shape, segment.routings, loadsBefore(context, range))
    : undefined
  const loss = withBalance(context, policy.loss, loads)
  return context.g.finish({
    loss,
    logps,
    entropies,
    ...sumsOf(loads),
    ...outputsOf(context, loss, segment, input, range, source),
  })
}

/** Loads of the layers before a segment; undefined where no such layer has experts. */
function loadsBefore({ g, config }: LayerContext, { first }: LayerRange): LoadSums | undefined {
  if (config.moe === null || !config.moeLayers.slice(0, first).includes(true)) return undefined
  const shape = [config.moe.experts]
  return { sent: g.input(LOADS.before.sent, shape), expected: g.input(LOADS.before.expected, shape) }
}

function sumsOf(loads: LoadSums | undefined): Record<string, Tensor> {
  return loads === undefined ? {} : { [LOADS.sums.sent]: loads.sent, [LOADS.sums.expected]: loads.expected }
}

interface Beginning {
  readonly context: LayerContext
  /** What went in: embeddings, or the output of the segment before. */
  readonly input: Tensor
  readonly segment: StackOutput
}

function beginSegment(source: ModelSource, shape: BatchShape, range: LayerRange): Beginning {
  const g = new GraphBuilder()
  const { config, checkpoint, layout, lora } = source
  const adapter = separateMatrices(g, layout, lora)
  const context: LayerContext = { g, config, weight: frozenWeights(g, checkpoint), adapter }
  const { tokens, embedded, rope, mixers } = stackInputs(context, shape)
  const input = range.first === 0 ? embedded() : g.input(HIDDEN.input, [tokens, config.hiddenSize])
  return { context, input, segment: decoderLayers(context, input, rope, mixers, range) }
}

function outputsOf(
  { g, adapter }: LayerContext,
  scalar: Tensor,
  { routings }: StackOutput,
  input: Tensor,
  range: LayerRange,
  { layout }: ModelSource,
): Record<string, Tensor> {
  const places = tensorsOf(layout, range)
  const matrices = places.flatMap((index) => adapter.all[index] ?? [])
  const all = gradients(g, scalar, range.first === 0 ? matrices : [...matrices, input])
  const named = all.slice(0, matrices.length).map((gradient, index) => {
    return { name: layout.tensors[places[index] ?? -1]?.name ?? '', gradient }
  })
  const outputs: Record<string, Tensor> = { gradient: joinGradients(g, named) }
  const hiddenGradient = all[matrices.length]
  if (hiddenGradient !== undefined) outputs[HIDDEN.gradient] = hiddenGradient
  const reached = [...routings.values()].map(({ chosen }) => g.sum(chosen, [0]))
  if (reached.length > 0) outputs['expert_tokens'] = g.concat(reached, 0)
  return outputs
}
