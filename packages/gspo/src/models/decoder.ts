/** The stack of decoder layers over flat tokens [T, hidden]; attention is given from outside, by what it may see. */
import type { Tensor } from '../graph/ops.ts'
import { LORA_TARGETS, type LoraConfig, type LoraSite } from '../lora.ts'
import type { ModelConfig } from './config.ts'
import { gatedFeedForward, linear, norm, projectHeads, type LayerContext, type RopeInputs } from './layers.ts'

/** Mixes q [T, heads * size] with k and v [T, kvHeads * size] of the tokens it may see. */
export type AttentionCore = (layer: number, heads: { q: Tensor; k: Tensor; v: Tensor }) => Tensor

/** Runs all layers and the last norm over embedded tokens [T, hidden]. */
export function decoderStack(
  context: LayerContext,
  embedded: Tensor,
  rope: RopeInputs,
  attend: AttentionCore,
): Tensor {
  const { g, config } = context
  let x = embedded
  for (let layer = 0; layer < config.layers; layer++) {
    const module = `model.layers.${layer}`
    const normed = norm(context, `${module}.input_layernorm`, x)
    const mixed = attend(layer, projectHeads(context, `${module}.self_attn`, normed, rope))
    x = g.add(x, linear(context, `${module}.self_attn.o_proj`, mixed, config.hiddenSize, config.outputBias))
    const inner = norm(context, `${module}.post_attention_layernorm`, x)
    x = g.add(x, feedForward(context, `${module}.mlp`, inner))
  }
  return norm(context, 'model.norm', x)
}

function feedForward(context: LayerContext, module: string, x: Tensor): Tensor {
  const names = { gate: `${module}.gate_proj`, up: `${module}.up_proj`, down: `${module}.down_proj` }
  return gatedFeedForward(context, names, x, context.config.intermediateSize)
}

/** All linear layers of a model that the configuration gives a LoRA. */
export function loraSites(config: ModelConfig, lora: LoraConfig): LoraSite[] {
  const { hiddenSize, intermediateSize } = config
  const queries = config.heads * config.headSize
  const keys = config.kvHeads * config.headSize
  const sizes: Record<(typeof LORA_TARGETS)[number], readonly [string, number, number]> = {
    q_proj: ['self_attn', hiddenSize, queries],
    k_proj: ['self_attn', hiddenSize, keys],
    v_proj: ['self_attn', hiddenSize, keys],
    o_proj: ['self_attn', queries, hiddenSize],
    gate_proj: ['mlp', hiddenSize, intermediateSize],
    up_proj: ['mlp', hiddenSize, intermediateSize],
    down_proj: ['mlp', intermediateSize, hiddenSize],
  }
  const sites: LoraSite[] = []
  for (let layer = 0; layer < config.layers; layer++)
    for (const target of LORA_TARGETS.filter((name) => lora.targets.includes(name))) {
      const [block, inSize, outSize] = sizes[target]
      sites.push({ module: `model.layers.${layer}.${block}.${target}`, inSize, outSize })
    }
  return sites
}
