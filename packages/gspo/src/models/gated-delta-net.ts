/**
 * The Gated DeltaNet layer of Qwen3-Next (arXiv 2412.06464): projections before and a gated norm after its core, which
 * is given from outside, by where its state comes from.
 */
import { mulDims } from '../graph/dims.ts'
import { dimOf } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import type { LinearAttentionConfig } from './model-config.ts'
import { linear, silu, type LayerContext } from './layers.ts'
import { linearAttentionModule, linearSizes } from './modules.ts'

/** What a layer hands its core, for T tokens. */
export interface MixerInputs {
  /** q, k and v before the convolution, [T, channels]. */
  readonly mixed: Tensor
  /** Share of what a key finds that is replaced, and logarithm of the decay, [T, valueHeads]. */
  readonly rate: Tensor
  readonly logDecay: Tensor
}

/** Gives what the heads read, [T, valueHeads * valueSize]. */
export type LinearCore = (layer: number, inputs: MixerInputs) => Tensor

/**
 * The layer's output [T, hidden] for normed x [T, hidden]. `isToken` [T, 1] is 0 at padding, which is to leave no
 * trace in the state, as transformers' `apply_mask_to_padding_states` sees to.
 */
export function gatedDeltaNet(
  context: LayerContext,
  sizes: LinearAttentionConfig,
  layer: number,
  x: Tensor,
  isToken: Tensor,
  core: LinearCore,
): Tensor {
  const { g, config, weight } = context
  const { keyHeads, valueHeads, keySize, valueSize } = sizes
  const widths = linearSizes(sizes)
  const module = linearAttentionModule(layer)
  const tokens = dimOf(x, 0)
  const share = valueHeads / keyHeads
  const masked = g.mul(x, isToken)
  // Both projections are laid out by key head: its query, key, values and gates; its rates and decays.
  const qkvz = linear(context, `${module}.in_proj_qkvz`, masked, widths.qkvz)
  const ba = linear(context, `${module}.in_proj_ba`, masked, widths.ba)
  const part = (x: Tensor, start: number, width: number): Tensor =>
    g.reshape(
      g.slice(g.reshape(x, [tokens, keyHeads, Number(dimOf(x, 1)) / keyHeads]), 2, start, start + width),
      [tokens, keyHeads * width],
    )
  const own = share * valueSize
  const q = part(qkvz, 0, keySize)
  const k = part(qkvz, keySize, keySize)
  const v = part(qkvz, 2 * keySize, own)
  const gate = part(qkvz, 2 * keySize + own, own)
  const decays = g.add(part(ba, share, share), weight(`${module}.dt_bias`, [valueHeads]))
  const speed = g.unary('exp', weight(`${module}.A_log`, [valueHeads]))
  const logDecay = g.unary('neg', g.mul(speed, g.unary('softplus', decays)))

  const mixed = g.concat([q, k, v], 1)
  const read = core(layer, { mixed, rate: g.unary('sigmoid', part(ba, 0, share)), logDecay })
  const perHead = [mulDims(tokens, valueHeads), valueSize]
  const normed = g.rmsNorm(
    g.reshape(read, perHead),
    weight(`${module}.norm.weight`, [valueSize]),
    config.normEpsilon,
  )
  const gated = g.mul(normed, silu(g, g.reshape(gate, perHead)))
  return linear(context, `${module}.out_proj`, g.reshape(gated, [tokens, widths.values]), config.hiddenSize)
}
