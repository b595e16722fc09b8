/** The stack of decoder layers over flat tokens [T, hidden]; attention is given from outside, by what it may see. */
import type { Tensor } from '../graph/ops.ts'
import { gatedFeedForward, linear, norm, projectHeads, type LayerContext, type RopeInputs } from './layers.ts'
import { gatedDeltaNet, type LinearCore } from './gated-delta-net.ts'
import { attentionModule, denseNames } from './modules.ts'
import { expertFeedForward, type Routing } from './moe.ts'

/** Mixes q [T, heads * size] with k and v [T, kvHeads * size] of the tokens it may see. */
export type AttentionCore = (layer: number, heads: { q: Tensor; k: Tensor; v: Tensor }) => Tensor

/** How tokens of a layer come to know of others. */
export interface TokenMixers {
  readonly attend: AttentionCore
  /** Only for families with linear attention. */
  readonly recur: { readonly core: LinearCore; readonly isToken: Tensor } | null
}

/** What comes out of the layers [T, hidden], and what each layer of experts decided, by layer. */
export interface StackOutput {
  readonly hidden: Tensor
  readonly routings: ReadonlyMap<number, Routing>
}

/** Consecutive layers: from the first up to, and without, `end`. */
export interface LayerRange {
  readonly first: number
  readonly end: number
}

/** Runs all layers and the last norm over embedded tokens [T, hidden]. */
export function decoderStack(
  context: LayerContext,
  embedded: Tensor,
  rope: RopeInputs,
  mixers: TokenMixers,
): StackOutput {
  const all = { first: 0, end: context.config.layers }
  const { hidden, routings } = decoderLayers(context, embedded, rope, mixers, all)
  return { hidden: lastNorm(context, hidden), routings }
}

/** The norm behind the last layer. */
export function lastNorm(context: LayerContext, hidden: Tensor): Tensor {
  return norm(context, 'model.norm', hidden)
}

/** Runs some layers over what the ones before them made of the tokens, [T, hidden]. */
export function decoderLayers(
  context: LayerContext,
  input: Tensor,
  rope: RopeInputs,
  { attend, recur }: TokenMixers,
  { first, end }: LayerRange,
): StackOutput {
  const { g, config } = context
  const routings = new Map<number, Routing>()
  let x = input
  for (let layer = first; layer < end; layer++) {
    const normed = norm(context, `model.layers.${layer}.input_layernorm`, x)
    if (config.linear !== null && recur !== null && config.linearLayers[layer] === true)
      x = g.add(x, gatedDeltaNet(context, config.linear, layer, normed, recur.isToken, recur.core))
    else x = g.add(x, selfAttention(context, layer, normed, rope, attend))
    const inner = norm(context, `model.layers.${layer}.post_attention_layernorm`, x)
    if (config.moe !== null && config.moeLayers[layer] === true) {
      const { output, routing } = expertFeedForward(context, config.moe, layer, inner)
      routings.set(layer, routing)
      x = g.add(x, output)
    } else x = g.add(x, gatedFeedForward(context, denseNames(layer), inner, config.intermediateSize))
  }
  return { hidden: x, routings }
}

/** The output [T, hidden] of a layer's softmax attention. */
function selfAttention(
  context: LayerContext,
  layer: number,
  normed: Tensor,
  rope: RopeInputs,
  attend: AttentionCore,
): Tensor {
  const { g, config } = context
  const module = attentionModule(layer)
  const { gate, ...heads } = projectHeads(context, module, normed, rope)
  const mixed = attend(layer, heads)
  const gated = gate === undefined ? mixed : g.mul(mixed, g.unary('sigmoid', gate))
  return linear(context, `${module}.o_proj`, gated, config.hiddenSize, config.outputBias)
}
