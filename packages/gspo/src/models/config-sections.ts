/** The parts of config.json that families spell differently: rotary embedding, windows, experts, linear attention. */
import { GspoError } from '../errors.ts'
import type { ConfigReader } from './config-reader.ts'
import type { Family, LinearAttentionConfig, MoeConfig, RopeConfig } from './model-config.ts'

/** The rotary base of a file that does not say: the configuration classes' own. */
function defaultTheta(family: Family): number {
  return family === 'mixtral' ? 1e6 : 1e4
}

/** The window of a file without the key, which means another thing than null: MistralConfig's own. */
const MISTRAL_WINDOW = 4096

/** transformers 5 has `rope_parameters`; 4 has `rope_theta` and `rope_scaling`, whose type is `rope_type` or `type`. */
export function parseRope(
  reader: ConfigReader,
  family: Family,
  maxPositions: number,
  rotary: number,
): RopeConfig {
  const rope = reader.section('rope_parameters') ?? reader.section('rope_scaling')
  const outerTheta = reader.number('rope_theta', defaultTheta(family))
  const theta = rope?.number('rope_theta', outerTheta) ?? outerTheta
  const outer = reader.number('partial_rotary_factor', rotary)
  const base = { theta, partialFactor: rope?.number('partial_rotary_factor', outer) ?? outer }
  const type = rope?.text('rope_type', rope.text('type', 'default')) ?? 'default'
  if (rope === undefined || type === 'default') return { ...base, type: 'default' }
  const originalPositions = rope.size('original_max_position_embeddings', maxPositions)
  switch (type) {
    case 'linear':
      return { ...base, type, factor: rope.number('factor') }
    case 'llama3':
      return {
        ...base,
        type,
        factor: rope.number('factor'),
        lowFrequencyFactor: rope.number('low_freq_factor'),
        highFrequencyFactor: rope.number('high_freq_factor'),
        originalPositions,
      }
    case 'yarn':
      return {
        ...base,
        type,
        factor: rope.number('factor', maxPositions / originalPositions),
        originalPositions,
        betaFast: rope.number('beta_fast', 32),
        betaSlow: rope.number('beta_slow', 1),
        attentionFactor: rope.optionalNumber('attention_factor'),
        mscale: rope.optionalNumber('mscale'),
        mscaleAllDim: rope.optionalNumber('mscale_all_dim'),
        truncate: rope.flag('truncate', true),
      }
    default:
      throw new GspoError(
        'BAD_MODEL_CONFIG',
        `config.json: rope type ${type} is not known; known: default, linear, llama3, yarn`,
      )
  }
}

/** Mistral and Mixtral slide in every layer; Qwen only with use_sliding_window, from layer max_window_layers on. */
export function parseWindows(reader: ConfigReader, family: Family, layers: number): (number | null)[] {
  const size =
    family === 'mistral' && !reader.has('sliding_window')
      ? MISTRAL_WINDOW
      : reader.optionalNumber('sliding_window')
  const kinds = reader.strings('layer_types')
  const isQwen = family === 'qwen2' || family === 'qwen3' || family === 'qwen3_moe'
  const isOn =
    size !== null &&
    (isQwen ? reader.flag('use_sliding_window', false) : family === 'mistral' || family === 'mixtral')
  const firstSliding = isQwen && family !== 'qwen3_moe' ? reader.number('max_window_layers', layers) : 0
  return Array.from({ length: layers }, (_, layer) => {
    const slides = kinds.length > layer ? kinds[layer] === 'sliding_attention' : isOn && layer >= firstSliding
    return slides ? size : null
  })
}

/** Which layers have experts: all of Mixtral's; Qwen's by decoder_sparse_step, without mlp_only_layers. */
export function parseMoeLayers(reader: ConfigReader, family: Family, layers: number): boolean[] {
  const step = reader.size('decoder_sparse_step', 1)
  const dense = new Set(reader.integers('mlp_only_layers'))
  return Array.from({ length: layers }, (_, layer) => {
    if (family === 'mixtral') return true
    const isSparse = family === 'qwen3_moe' || family === 'qwen3_next'
    return isSparse && !dense.has(layer) && (layer + 1) % step === 0
  })
}

/** Sizes of the experts; null for a family without. */
export function parseMoe(reader: ConfigReader, family: Family): MoeConfig | null {
  switch (family) {
    case 'qwen3_moe':
    case 'qwen3_next':
      return {
        // transformers 4 writes num_experts, 5 num_local_experts.
        experts: reader.size('num_experts', reader.optionalNumber('num_local_experts') ?? undefined),
        expertsPerToken: reader.size('num_experts_per_tok'),
        expertSize: reader.size('moe_intermediate_size'),
        normalise: reader.flag('norm_topk_prob', family === 'qwen3_next'),
        sharedExpertSize:
          family === 'qwen3_next' ? reader.size('shared_expert_intermediate_size', 512) : null,
        naming: 'qwen',
      }
    case 'mixtral':
      return {
        experts: reader.size('num_local_experts'),
        expertsPerToken: reader.size('num_experts_per_tok'),
        expertSize: reader.size('intermediate_size'),
        normalise: true,
        sharedExpertSize: null,
        naming: 'mixtral',
      }
    case 'qwen3':
    case 'qwen2':
    case 'llama':
    case 'mistral':
      return null
  }
}

/** Qwen3-Next names each layer's kind, or leaves it to full_attention_interval: every so many, one is full. */
export function parseLinearLayers(reader: ConfigReader, family: Family, layers: number): boolean[] {
  if (family !== 'qwen3_next') return new Array<boolean>(layers).fill(false)
  const kinds = reader.strings('layer_types')
  const interval = reader.size('full_attention_interval', 4)
  return Array.from({ length: layers }, (_, layer) => {
    const kind = kinds[layer] ?? ((layer + 1) % interval === 0 ? 'full_attention' : 'linear_attention')
    if (kind !== 'full_attention' && kind !== 'linear_attention')
      throw new GspoError(
        'BAD_MODEL_CONFIG',
        `config.json: layer_types names ${kind}; this family has linear_attention and full_attention`,
      )
    return kind === 'linear_attention'
  })
}

/** Sizes of Gated DeltaNet layers, by default Qwen3NextConfig's; null for a family without. */
export function parseLinearAttention(reader: ConfigReader, family: Family): LinearAttentionConfig | null {
  if (family !== 'qwen3_next') return null
  const keyHeads = reader.size('linear_num_key_heads', 16)
  const valueHeads = reader.size('linear_num_value_heads', 32)
  if (valueHeads % keyHeads !== 0)
    throw new GspoError(
      'BAD_MODEL_CONFIG',
      `config.json: linear_num_value_heads is ${valueHeads}; it must be a multiple of linear_num_key_heads, ${keyHeads}`,
    )
  return {
    keyHeads,
    valueHeads,
    keySize: reader.size('linear_key_head_dim', 128),
    valueSize: reader.size('linear_value_head_dim', 128),
    kernel: reader.size('linear_conv_kernel_dim', 4),
  }
}
