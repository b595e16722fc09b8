/** Reads config.json, in the layouts of transformers 4 and 5, into one description of a decoder. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { GspoError } from '../errors.ts'
import { ConfigReader } from './config-reader.ts'

/** Rotary embedding and its scaling. */
export type RopeConfig = { readonly theta: number; readonly partialFactor: number } & (
  | { readonly type: 'default' }
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3'
      readonly factor: number
      readonly lowFrequencyFactor: number
      readonly highFrequencyFactor: number
      readonly originalPositions: number
    }
  | {
      readonly type: 'yarn'
      readonly factor: number
      readonly originalPositions: number
      readonly betaFast: number
      readonly betaSlow: number
      readonly attentionFactor: number | null
      readonly mscale: number | null
      readonly mscaleAllDim: number | null
      readonly truncate: boolean
    }
)

/** Mixture of experts in some layers. */
export interface MoeConfig {
  readonly experts: number
  readonly expertsPerToken: number
  readonly expertSize: number
  /** Whether the chosen experts' weights are made to sum to 1. */
  readonly normalise: boolean
  /** Where the router and the experts lie inside a layer. */
  readonly naming: 'qwen' | 'mixtral'
}

/** A decoder, whatever file it came from. */
export interface ModelConfig {
  readonly architecture: string
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly headSize: number
  readonly normEpsilon: number
  readonly tiedHead: boolean
  /** Bias on q, k and v. */
  readonly qkvBias: boolean
  /** Bias on o. */
  readonly outputBias: boolean
  readonly mlpBias: boolean
  /** RMSNorm on each head of q and k. */
  readonly qkNorm: boolean
  readonly rope: RopeConfig
  /** For each layer: how many tokens a query sees, itself included; null for all before it. */
  readonly windows: readonly (number | null)[]
  /** For each layer: whether its feed-forward is a mixture of experts. */
  readonly moeLayers: readonly boolean[]
  readonly moe: MoeConfig | null
  readonly maxPositions: number
  readonly eosTokenIds: readonly number[]
  readonly padTokenId: number
}

type Family = 'qwen3' | 'qwen3_moe' | 'qwen2' | 'llama' | 'mistral' | 'mixtral'

const FAMILIES: Readonly<Record<string, Family>> = {
  Qwen3ForCausalLM: 'qwen3',
  Qwen3MoeForCausalLM: 'qwen3_moe',
  Qwen2ForCausalLM: 'qwen2',
  LlamaForCausalLM: 'llama',
  MistralForCausalLM: 'mistral',
  MixtralForCausalLM: 'mixtral',
}

/** Architectures that can be loaded, by their names in config.json. */
export const KNOWN_ARCHITECTURES: readonly string[] = Object.keys(FAMILIES)

/**
 * Reads a model folder's config.json and generation_config.json.
 * Throws FILE_MISSING, BAD_MODEL_CONFIG or UNKNOWN_ARCHITECTURE.
 */
export async function readModelConfig(folder: string): Promise<ModelConfig> {
  const file = path.join(folder, 'config.json')
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new GspoError('FILE_MISSING', `cannot read ${file}; give the folder of a Hugging Face model`, {
      cause,
    })
  })
  const generation = await readFile(path.join(folder, 'generation_config.json'), 'utf8').catch(() => '{}')
  return parseModelConfig(parseJson(text, file), parseJson(generation, 'generation_config.json'))
}

/** Turns the parsed JSON of both files into a description; throws as `readModelConfig`. */
export function parseModelConfig(config: unknown, generation: unknown): ModelConfig {
  const reader = new ConfigReader(config, 'config.json')
  const architecture = reader.strings('architectures')[0] ?? ''
  const family = FAMILIES[architecture]
  if (family === undefined)
    throw new GspoError(
      'UNKNOWN_ARCHITECTURE',
      `architecture ${architecture || '(none named)'} is not known; known: ${KNOWN_ARCHITECTURES.join(', ')}`,
    )
  checkActivation(reader)
  const hiddenSize = reader.size('hidden_size')
  const layers = reader.size('num_hidden_layers')
  const heads = reader.size('num_attention_heads')
  const headSize = reader.size('head_dim', Math.floor(hiddenSize / heads))
  const maxPositions = reader.size('max_position_embeddings')
  const isQwen3 = family === 'qwen3' || family === 'qwen3_moe'
  const attentionBias = family === 'qwen2' || reader.flag('attention_bias', false)
  const eos = new ConfigReader(generation, 'generation_config.json').integers('eos_token_id')
  const eosTokenIds = eos.length > 0 ? eos : reader.integers('eos_token_id')
  return {
    architecture,
    vocabSize: reader.size('vocab_size'),
    hiddenSize,
    intermediateSize: reader.size('intermediate_size'),
    layers,
    heads,
    kvHeads: reader.size('num_key_value_heads', heads),
    headSize,
    normEpsilon: reader.number('rms_norm_eps', 1e-6),
    // transformers leaves a key out where it equals the class's default, which is false for all families here.
    tiedHead: reader.flag('tie_word_embeddings', false),
    qkvBias: attentionBias,
    outputBias: attentionBias && family !== 'qwen2',
    mlpBias: reader.flag('mlp_bias', false),
    qkNorm: isQwen3,
    rope: parseRope(reader, maxPositions),
    windows: parseWindows(reader, family, layers),
    moeLayers: parseMoeLayers(reader, family, layers),
    moe: parseMoe(reader, family),
    maxPositions,
    eosTokenIds,
    padTokenId: reader.integers('pad_token_id')[0] ?? eosTokenIds[0] ?? 0,
  }
}

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new GspoError('BAD_MODEL_CONFIG', `${file} is no JSON`, { cause })
  }
}

function checkActivation(reader: ConfigReader): void {
  const activation = reader.text('hidden_act', 'silu')
  if (activation !== 'silu')
    throw new GspoError('BAD_MODEL_CONFIG', `config.json: hidden_act is ${activation}; only silu is known`)
}

/** transformers 5 has `rope_parameters`; 4 has `rope_theta` and `rope_scaling`, whose type is `rope_type` or `type`. */
function parseRope(reader: ConfigReader, maxPositions: number): RopeConfig {
  const rope = reader.section('rope_parameters') ?? reader.section('rope_scaling')
  const theta =
    rope?.number('rope_theta', reader.number('rope_theta', 10000)) ?? reader.number('rope_theta', 10000)
  const outer = reader.number('partial_rotary_factor', 1)
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
function parseWindows(reader: ConfigReader, family: Family, layers: number): (number | null)[] {
  const size = reader.optionalNumber('sliding_window')
  const kinds = reader.strings('layer_types')
  const isQwen = family === 'qwen2' || family === 'qwen3' || family === 'qwen3_moe'
  const isOn = size !== null && (isQwen ? reader.flag('use_sliding_window', false) : family !== 'llama')
  const firstSliding = isQwen && family !== 'qwen3_moe' ? reader.number('max_window_layers', layers) : 0
  return Array.from({ length: layers }, (_, layer) => {
    const slides = kinds.length > layer ? kinds[layer] === 'sliding_attention' : isOn && layer >= firstSliding
    return slides ? size : null
  })
}

function parseMoeLayers(reader: ConfigReader, family: Family, layers: number): boolean[] {
  const step = reader.size('decoder_sparse_step', 1)
  const dense = new Set(reader.integers('mlp_only_layers'))
  return Array.from({ length: layers }, (_, layer) => {
    if (family === 'mixtral') return true
    return family === 'qwen3_moe' && !dense.has(layer) && (layer + 1) % step === 0
  })
}

function parseMoe(reader: ConfigReader, family: Family): MoeConfig | null {
  switch (family) {
    case 'qwen3_moe':
      return {
        // transformers 4 writes num_experts, 5 num_local_experts.
        experts: reader.size('num_experts', reader.optionalNumber('num_local_experts') ?? undefined),
        expertsPerToken: reader.size('num_experts_per_tok'),
        expertSize: reader.size('moe_intermediate_size'),
        normalise: reader.flag('norm_topk_prob', false),
        naming: 'qwen',
      }
    case 'mixtral':
      return {
        experts: reader.size('num_local_experts'),
        expertsPerToken: reader.size('num_experts_per_tok'),
        expertSize: reader.size('intermediate_size'),
        normalise: true,
        naming: 'mixtral',
      }
    case 'qwen3':
    case 'qwen2':
    case 'llama':
    case 'mistral':
      return null
  }
}
