/** Names of a decoder's parts in its checkpoint, and the linear layers that LoRA can sit on. */
import { LORA_TARGETS, type LoraConfig, type LoraSite, type LoraTarget } from '../lora.ts'
import type { ModelConfig } from './config.ts'

/** Module paths of a gated feed-forward. */
export interface FeedForwardNames {
  readonly gate: string
  readonly up: string
  readonly down: string
}

/** Path of a layer's self-attention. */
export function attentionModule(layer: number): string {
  return `model.layers.${layer}.self_attn`
}

/** Names of a layer's dense feed-forward. */
export function denseNames(layer: number): FeedForwardNames {
  const module = `model.layers.${layer}.mlp`
  return { gate: `${module}.gate_proj`, up: `${module}.up_proj`, down: `${module}.down_proj` }
}

/** Path of a layer's router: a linear layer from hidden size to experts. */
export function routerModule(config: ModelConfig, layer: number): string {
  return `model.layers.${layer}.${config.moe?.naming === 'mixtral' ? 'block_sparse_moe' : 'mlp'}.gate`
}

/** Path of one expert. */
export function expertModule(config: ModelConfig, layer: number, expert: number): string {
  const block = config.moe?.naming === 'mixtral' ? 'block_sparse_moe' : 'mlp'
  return `model.layers.${layer}.${block}.experts.${expert}`
}

/** Names of one expert's feed-forward. */
export function expertNames(config: ModelConfig, layer: number, expert: number): FeedForwardNames {
  const module = expertModule(config, layer, expert)
  if (config.moe?.naming === 'mixtral')
    return { gate: `${module}.w1`, up: `${module}.w3`, down: `${module}.w2` }
  return { gate: `${module}.gate_proj`, up: `${module}.up_proj`, down: `${module}.down_proj` }
}

/** All linear layers of a model that the configuration gives a LoRA; every expert has its own. */
export function loraSites(config: ModelConfig, lora: LoraConfig): LoraSite[] {
  const sites: LoraSite[] = []
  for (let layer = 0; layer < config.layers; layer++)
    for (const target of LORA_TARGETS)
      if (lora.targets.includes(target)) sites.push(...layerSites(config, layer, target))
  return sites
}

function layerSites(config: ModelConfig, layer: number, target: LoraTarget): LoraSite[] {
  const { hiddenSize } = config
  const queries = config.heads * config.headSize
  const keys = config.kvHeads * config.headSize
  const attention = (inSize: number, outSize: number): LoraSite[] => [
    { module: `${attentionModule(layer)}.${target}`, inSize, outSize },
  ]
  switch (target) {
    case 'q_proj':
      return attention(hiddenSize, queries)
    case 'k_proj':
    case 'v_proj':
      return attention(hiddenSize, keys)
    case 'o_proj':
      return attention(queries, hiddenSize)
    case 'gate_proj':
      return feedForwards(config, layer).map(({ names, size }) => {
        return { module: names.gate, inSize: hiddenSize, outSize: size }
      })
    case 'up_proj':
      return feedForwards(config, layer).map(({ names, size }) => {
        return { module: names.up, inSize: hiddenSize, outSize: size }
      })
    case 'down_proj':
      return feedForwards(config, layer).map(({ names, size }) => {
        return { module: names.down, inSize: size, outSize: hiddenSize }
      })
  }
}

function feedForwards(config: ModelConfig, layer: number): { names: FeedForwardNames; size: number }[] {
  const { moe } = config
  if (moe === null || config.moeLayers[layer] !== true)
    return [{ names: denseNames(layer), size: config.intermediateSize }]
  return Array.from({ length: moe.experts }, (_, expert) => ({
    names: expertNames(config, layer, expert),
    size: moe.expertSize,
  }))
}
