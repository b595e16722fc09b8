/** Shapes of published models, without their weights. */
import { parseModelConfig } from '../src/models/config.ts'
import type { ModelConfig } from '../src/models/model-config.ts'

/** Qwen3-0.6B: 28 layers, 8 heads of keys and values of 128. */
export const QWEN3_06B: ModelConfig = parseModelConfig(
  {
    architectures: ['Qwen3ForCausalLM'],
    vocab_size: 151936,
    hidden_size: 1024,
    intermediate_size: 3072,
    num_hidden_layers: 28,
    num_attention_heads: 16,
    num_key_value_heads: 8,
    head_dim: 128,
    max_position_embeddings: 4096,
    tie_word_embeddings: true,
  },
  {},
)
