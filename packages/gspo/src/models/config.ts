/** Reads config.json, in the layouts of transformers 4 and 5, into one description of a decoder. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { GspoError } from '../errors.ts'
import { ConfigReader } from './config-reader.ts'
import {
  parseLinearAttention,
  parseLinearLayers,
  parseMoe,
  parseMoeLayers,
  parseRope,
  parseWindows,
} from './config-sections.ts'
import type { Family, ModelConfig } from './model-config.ts'

const FAMILIES: Readonly<Record<string, Family>> = {
  Qwen3ForCausalLM: 'qwen3',
  Qwen3MoeForCausalLM: 'qwen3_moe',
  Qwen3NextForCausalLM: 'qwen3_next',
  Qwen2ForCausalLM: 'qwen2',
  LlamaForCausalLM: 'llama',
  MistralForCausalLM: 'mistral',
  MixtralForCausalLM: 'mixtral',
}

/** Share of each head that Qwen3NextConfig rotates where the file does not say. */
const QWEN3_NEXT_ROTARY = 0.25

/** Architectures that can be loaded, by their names in config.json. */
export const KNOWN_ARCHITECTURES: readonly string[] = Object.keys(FAMILIES)

/**
 * Reads a model folder's config.json and generation_config.json.
 * Throws FILE_MISSING, BAD_MODEL_CONFIG or UNKNOWN_ARCHITECTURE.
 */
export async function readModelConfig(folder: string): Promise<ModelConfig> {
  const file = path.join(folder, 'config.json')
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new GspoError(
      'FILE_MISSING',
      `cannot read ${file} (${reason}): give the folder of a Hugging Face model`,
      {
        cause,
      },
    )
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
  const isNext = family === 'qwen3_next'
  const isQwen3 = family === 'qwen3' || family === 'qwen3_moe' || isNext
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
    normEpsilon: reader.number('rms_norm_eps', family === 'mixtral' ? 1e-5 : 1e-6),
    // transformers leaves a key out where it equals the class's default, which is false for all families here.
    tiedHead: reader.flag('tie_word_embeddings', false),
    qkvBias: attentionBias,
    outputBias: attentionBias && family !== 'qwen2',
    mlpBias: reader.flag('mlp_bias', false),
    qkNorm: isQwen3,
    attentionGate: isNext,
    zeroCentredNorms: isNext,
    rope: parseRope(reader, family, maxPositions, isNext ? QWEN3_NEXT_ROTARY : 1),
    windows: parseWindows(reader, family, layers),
    moeLayers: parseMoeLayers(reader, family, layers),
    moe: parseMoe(reader, family),
    linearLayers: parseLinearLayers(reader, family, layers),
    linear: parseLinearAttention(reader, family),
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
