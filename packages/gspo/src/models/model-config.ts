/** What a decoder is, whatever file it was described in. No behaviour. */

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
  /** Inner size of the expert that every token goes to, behind a gate of its own; null for none. */
  readonly sharedExpertSize: number | null
  /** Where the router and the experts lie inside a layer. */
  readonly naming: 'qwen' | 'mixtral'
}

/** Gated DeltaNet layers (arXiv 2412.06464): a recurrent state for each head of values instead of a cache of keys. */
export interface LinearAttentionConfig {
  readonly keyHeads: number
  /** A multiple of `keyHeads`. */
  readonly valueHeads: number
  readonly keySize: number
  readonly valueSize: number
  /** Tokens that the causal convolution sees, the current one included. */
  readonly kernel: number
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
  /** q_proj also makes a gate, as wide as the queries, on what attention gives. */
  readonly attentionGate: boolean
  /** Norms multiply by 1 + weight. */
  readonly zeroCentredNorms: boolean
  readonly rope: RopeConfig
  /** For each layer: how many tokens a query sees, itself included; null for all before it. */
  readonly windows: readonly (number | null)[]
  /** For each layer: whether its feed-forward is a mixture of experts. */
  readonly moeLayers: readonly boolean[]
  readonly moe: MoeConfig | null
  /** For each layer: whether it is a Gated DeltaNet instead of softmax attention. */
  readonly linearLayers: readonly boolean[]
  readonly linear: LinearAttentionConfig | null
  readonly maxPositions: number
  readonly eosTokenIds: readonly number[]
  readonly padTokenId: number
}

/** What transformers calls model_type. */
export type Family = 'qwen3' | 'qwen3_moe' | 'qwen3_next' | 'qwen2' | 'llama' | 'mistral' | 'mixtral'
