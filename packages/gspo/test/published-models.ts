/**
 * The facts of published models' config.json that decide their shape, in the layout of transformers 4 that they are
 * published in, and the number of their parameters: that of transformers 5.18's own class, built from these facts
 * without weights. Qwen3-Next's is without its multi-token prediction layer, which transformers does not load either.
 */

/** One published model. */
export interface PublishedModel {
  readonly name: string
  readonly config: Record<string, unknown>
  readonly parameters: number
  readonly headSize: number
}

const qwen3 = (
  [hidden, inner, layers, heads]: readonly [number, number, number, number],
  extra: object = {},
): Record<string, unknown> => ({
  architectures: ['Qwen3ForCausalLM'],
  attention_bias: false,
  eos_token_id: 151645,
  head_dim: 128,
  hidden_act: 'silu',
  hidden_size: hidden,
  intermediate_size: inner,
  max_position_embeddings: 40960,
  max_window_layers: layers,
  model_type: 'qwen3',
  num_attention_heads: heads,
  num_hidden_layers: layers,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-6,
  rope_scaling: null,
  rope_theta: 1000000,
  sliding_window: null,
  tie_word_embeddings: false,
  use_sliding_window: false,
  vocab_size: 151936,
  ...extra,
})

const qwen2 = (
  [hidden, inner, layers, heads, kvHeads]: readonly [number, number, number, number, number],
  extra: object,
): Record<string, unknown> => ({
  architectures: ['Qwen2ForCausalLM'],
  eos_token_id: 151645,
  hidden_act: 'silu',
  hidden_size: hidden,
  intermediate_size: inner,
  max_position_embeddings: 32768,
  model_type: 'qwen2',
  num_attention_heads: heads,
  num_hidden_layers: layers,
  num_key_value_heads: kvHeads,
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  sliding_window: 32768,
  tie_word_embeddings: false,
  use_sliding_window: false,
  vocab_size: 152064,
  ...extra,
})

const llama3 = (
  [hidden, inner, layers, heads]: readonly [number, number, number, number],
  factor: number,
  extra: object = {},
): Record<string, unknown> => ({
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  eos_token_id: [128001, 128008, 128009],
  hidden_act: 'silu',
  hidden_size: hidden,
  intermediate_size: inner,
  max_position_embeddings: 131072,
  mlp_bias: false,
  model_type: 'llama',
  num_attention_heads: heads,
  num_hidden_layers: layers,
  num_key_value_heads: 8,
  pretraining_tp: 1,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    factor,
    high_freq_factor: 4,
    low_freq_factor: 1,
    original_max_position_embeddings: 8192,
    rope_type: 'llama3',
  },
  rope_theta: 500000,
  tie_word_embeddings: false,
  vocab_size: 128256,
  ...extra,
})

const mistral = (extra: object): Record<string, unknown> => ({
  architectures: ['MistralForCausalLM'],
  eos_token_id: 2,
  hidden_act: 'silu',
  hidden_size: 4096,
  intermediate_size: 14336,
  max_position_embeddings: 32768,
  model_type: 'mistral',
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
  ...extra,
})

const tied = { tie_word_embeddings: true }

/** YaRN as the model cards of Qwen2.5 and Qwen3 say to switch it on for 131,072 tokens. */
export const YARN = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 32768 } as const

/** Models of every family that this package loads. */
export const PUBLISHED_MODELS: readonly PublishedModel[] = [
  {
    name: 'Qwen3-0.6B',
    config: qwen3([1024, 3072, 28, 16], tied),
    parameters: 596049920,
    headSize: 128,
  },
  {
    name: 'Qwen3-1.7B',
    config: qwen3([2048, 6144, 28, 16], tied),
    parameters: 1720574976,
    headSize: 128,
  },
  {
    name: 'Qwen3-4B',
    config: qwen3([2560, 9728, 36, 32], tied),
    parameters: 4022468096,
    headSize: 128,
  },
  {
    name: 'Qwen3-8B',
    config: qwen3([4096, 12288, 36, 32]),
    parameters: 8190735360,
    headSize: 128,
  },
  {
    name: 'Qwen3-14B',
    config: qwen3([5120, 17408, 40, 40]),
    parameters: 14768307200,
    headSize: 128,
  },
  {
    name: 'Qwen3-32B',
    config: qwen3([5120, 25600, 64, 64]),
    parameters: 32762123264,
    headSize: 128,
  },
  {
    name: 'Qwen3-30B-A3B',
    config: qwen3([2048, 6144, 48, 32], {
      architectures: ['Qwen3MoeForCausalLM'],
      decoder_sparse_step: 1,
      mlp_only_layers: [],
      model_type: 'qwen3_moe',
      moe_intermediate_size: 768,
      norm_topk_prob: true,
      num_experts: 128,
      num_experts_per_tok: 8,
      num_key_value_heads: 4,
      router_aux_loss_coef: 0.001,
    }),
    parameters: 30532122624,
    headSize: 128,
  },
  {
    name: 'Qwen3-Next-80B-A3B',
    config: qwen3([2048, 5120, 48, 16], {
      architectures: ['Qwen3NextForCausalLM'],
      decoder_sparse_step: 1,
      full_attention_interval: 4,
      head_dim: 256,
      linear_conv_kernel_dim: 4,
      linear_key_head_dim: 128,
      linear_num_key_heads: 16,
      linear_num_value_heads: 32,
      linear_value_head_dim: 128,
      max_position_embeddings: 262144,
      mlp_only_layers: [],
      model_type: 'qwen3_next',
      moe_intermediate_size: 512,
      norm_topk_prob: true,
      num_experts: 512,
      num_experts_per_tok: 10,
      num_key_value_heads: 2,
      partial_rotary_factor: 0.25,
      rope_theta: 10000000,
      router_aux_loss_coef: 0.001,
      shared_expert_intermediate_size: 512,
    }),
    parameters: 79674391296,
    headSize: 256,
  },
  {
    name: 'QwQ-32B',
    config: qwen2([5120, 27648, 64, 40, 8], { max_position_embeddings: 40960, max_window_layers: 64 }),
    parameters: 32763876352,
    headSize: 128,
  },
  {
    name: 'Qwen2.5-0.5B',
    config: qwen2([896, 4864, 24, 14, 2], { ...tied, max_window_layers: 24, vocab_size: 151936 }),
    parameters: 494032768,
    headSize: 64,
  },
  {
    name: 'Qwen2.5-7B with YaRN',
    config: qwen2([3584, 18944, 28, 28, 4], {
      max_window_layers: 28,
      rope_scaling: { type: 'yarn', factor: 4, original_max_position_embeddings: 32768 },
    }),
    parameters: 7615616512,
    headSize: 128,
  },
  {
    name: 'Llama-3.1-8B',
    config: llama3([4096, 14336, 32, 32], 8),
    parameters: 8030261248,
    headSize: 128,
  },
  {
    name: 'Llama-3.1-70B',
    config: llama3([8192, 28672, 80, 64], 8),
    parameters: 70553706496,
    headSize: 128,
  },
  {
    name: 'Llama-3.2-1B',
    config: llama3([2048, 8192, 16, 32], 32, { ...tied, head_dim: 64 }),
    parameters: 1235814400,
    headSize: 64,
  },
  {
    name: 'Llama-3.2-3B',
    config: llama3([3072, 8192, 28, 24], 32, { ...tied, head_dim: 128 }),
    parameters: 3212749824,
    headSize: 128,
  },
  {
    name: 'Mistral-7B-v0.1',
    config: mistral({ rope_theta: 10000, sliding_window: 4096, vocab_size: 32000 }),
    parameters: 7241732096,
    headSize: 128,
  },
  {
    name: 'Mistral-7B-v0.3',
    config: mistral({ rope_theta: 1000000, sliding_window: null, vocab_size: 32768 }),
    parameters: 7248023552,
    headSize: 128,
  },
  {
    name: 'Mixtral-8x7B-v0.1',
    config: mistral({
      architectures: ['MixtralForCausalLM'],
      model_type: 'mixtral',
      num_experts_per_tok: 2,
      num_local_experts: 8,
      rope_theta: 1000000,
      router_aux_loss_coef: 0.02,
      sliding_window: null,
      vocab_size: 32000,
    }),
    parameters: 46702792704,
    headSize: 128,
  },
]
