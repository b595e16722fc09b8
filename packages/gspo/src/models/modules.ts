/** Names of a decoder's parts in its checkpoint, and the linear layers that LoRA can sit on. */
import { LORA_TARGETS, type LoraConfig, type LoraSite, type LoraTarget } from '../lora.ts'
import type { LinearAttentionConfig, ModelConfig } from './model-config.ts'

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

/** Path of a layer's Gated DeltaNet. */
export function linearAttentionModule(layer: number): string {
  return `model.layers.${layer}.linear_attn`
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

/** Path of the expert that every token of a layer goes through. */
export function sharedExpertModule(layer: number): string {
  return `model.layers.${layer}.mlp.shared_expert`
}

/** Names of that expert's feed-forward. */
export function sharedExpertNames(layer: number): FeedForwardNames {
  const module = sharedExpertModule(layer)
  return { gate: `${module}.gate_proj`, up: `${module}.up_proj`, down: `${module}.down_proj` }
}

/** Names of one expert's feed-forward. */
export function expertNames(config: ModelConfig, layer: number, expert: number): FeedForwardNames {
  const module = expertModule(config, layer, expert)
  if (config.moe?.naming === 'mixtral')
    return { gate: `${module}.w1`, up: `${module}.w3`, down: `${module}.w2` }
  return { gate: `${module}.gate_proj`, up: `${module}.up_proj`, down: `${module}.down_proj` }
}

/** Widths of what a Gated DeltaNet projects to. */
export interface LinearSizes {
  readonly keys: number
  readonly values: number
  /** q, k and v together: what is convolved. */
  readonly channels: number
  readonly qkvz: number
  readonly ba: number
}

/** Widths by configuration. */
export function linearSizes(linear: LinearAttentionConfig): LinearSizes {
  const keys = linear.keyHeads * linear.keySize
  const values = linear.valueHeads * linear.valueSize
  return {
    keys,
    values,
    channels: 2 * keys + values,
    qkvz: 2 * keys + 2 * values,
    ba: 2 * linear.valueHeads,
  }
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
  const isLinear = config.linearLayers[layer] === true
  const attention = (inSize: number, outSize: number): LoraSite[] =>
    isLinear ? [] : [{ module: `${attentionModule(layer)}.${target}`, inSize, outSize }]
  const sizes = isLinear && config.linear !== null ? linearSizes(config.linear) : undefined
  const linear = (inSize: number, outSize: number | undefined): LoraSite[] =>
    outSize === undefined ? [] : [{ module: `${linearAttentionModule(layer)}.${target}`, inSize, outSize }]
  switch (target) {
    case 'q_proj':
      return attention(hiddenSize, config.attentionGate ? 2 * queries : queries)
    case 'k_proj':
    case 'v_proj':
      return attention(hiddenSize, keys)
    case 'o_proj':
      return attention(queries, hiddenSize)
    case 'in_proj_qkvz':
      return linear(hiddenSize, sizes?.qkvz)
    case 'in_proj_ba':
      return linear(hiddenSize, sizes?.ba)
    case 'out_proj':
      return linear(sizes?.values ?? 0, sizes === undefined ? undefined : hiddenSize)
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
  const experts = Array.from({ length: moe.experts }, (_, expert) => ({
    names: expertNames(config, layer, expert),
    size: moe.expertSize,
  }))
  return moe.sharedExpertSize === null
    ? experts
    : [...experts, { names: sharedExpertNames(layer), size: moe.sharedExpertSize }]
}
