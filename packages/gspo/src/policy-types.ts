/** The boundary between the tensor engine (below) and the trainer (above): what a policy is, without any engine. */
import type { DecodingDemand } from './decoding-memory.ts'
import type { EngineNote } from './engine/engine.ts'
import type { AdapterLayout, LoraConfig } from './lora.ts'

/**
 * Engines that `loadPolicy` knows. `auto` is onnx-webgpu where the machine has a GPU with a working driver and the model
 * is worth it, and onnx-cpu, which every machine has, everywhere else; the policy's `engineNote` says why.
 */
export type EngineName = (typeof ENGINE_NAMES)[number]

/** See EngineName. */
export const ENGINE_NAMES = ['auto', 'onnx-cpu', 'onnx-webgpu', 'tfjs'] as const

/** How to load a policy: a Hugging Face folder, the adapter's shape, and what runs it. */
export interface PolicyOptions {
  modelDir: string
  lora: LoraConfig
  engine: EngineName
  /** Threads of the engine inside one operation. */
  threads: number
  /** Keeps the frozen linear layers in 4 bits, blockwise; the head too, in 8 bits, when decoding. */
  use4bit?: boolean
  /** With `use4bit`: trains with the head's 8-bit codes too, as decoding does, instead of its exact floats. */
  use8bitHead?: boolean
  /** Numbers of a row that share a scale in 4 bits: 32, 64 or 128. */
  quantBlock?: 32 | 64 | 128
  /** Where prepared weights are kept for the next run; see `weightCacheFolder` for the usual place. */
  cacheFolder?: string
  /** Computes layers twice to keep less of them: each by itself, never, or as `memoryLimitMb` asks for (the default). */
  gradientCheckpointing?: boolean | 'auto'
  /** Memory that this process may take, MB of 2^20 bytes: batches run in smaller parts to keep below it. */
  memoryLimitMb?: number
  /** Tokens of a sequence that will be trained on: a limit that it does not fit is refused at once. */
  longestSequence?: number
  /** Parts in which training goes through the vocabulary; as many as the memory limit asks for when left out. */
  headParts?: number
}

/** What is known of the loaded model. */
export interface ModelSummary {
  /** The class name in config.json, e.g. Qwen3ForCausalLM. */
  architecture: string
  vocabSize: number
  hiddenSize: number
  layers: number
  maxPositions: number
  eosTokenIds: readonly number[]
  padTokenId: number
  /** Number of frozen weights. */
  parameters: number
  /** SHA-256, in hex, over the weight files' bytes, in index order. */
  sha256: string
}

/** Prompts padded on the left, completions padded on the right; all arrays row-major, masks 1 on real tokens. */
export interface TokenBatch {
  rows: number
  promptLength: number
  completionLength: number
  /** [rows, promptLength] */
  promptIds: Int32Array
  promptMask: Int32Array
  /** [rows, completionLength] */
  completionIds: Int32Array
  completionMask: Int32Array
}

/** A token batch with what the loss needs. */
export interface LossBatch extends TokenBatch {
  /** [rows] */
  advantages: Float32Array
  /**
   * [rows * completionLength]: log-probabilities under the policy that sampled; null on policy, where they are the
   * current ones held fixed and every ratio is exactly 1.
   */
  oldLogps: Float32Array | null
  /** [rows * completionLength] under the base model; null when beta is 0. */
  refLogps: Float32Array | null
}

/** Whose ratio is clipped: one for the sequence (GSPO), one for each token (GRPO), or GSPO-token. */
export type ImportanceSamplingLevel = 'sequence' | 'token' | 'sequence_token'

/** How the per-token losses are summed, as in TRL. */
export type LossType = 'grpo' | 'bnpo' | 'dapo' | 'dr_grpo' | 'luspo' | 'cispo' | 'sapo'

/** The loss; names and meaning as in TRL. */
export interface LossConfig {
  importance_sampling_level: ImportanceSamplingLevel
  loss_type: LossType
  /** Lower clipping distance: a ratio below 1 - epsilon is clipped when its advantage is negative. */
  epsilon: number
  /** Upper clipping distance. */
  epsilon_high: number
  /** Weight of the KL term to the base model; 0 turns it off. */
  beta: number
  use_bias_correction_kl: boolean
  temperature: number
  /** Divisor of dr_grpo, tokens. */
  max_completion_length: number
  /** Weight of the load-balancing loss of mixture-of-experts models. */
  router_aux_loss_coef: number
  /** Completion tokens over the whole accumulation window, the divisor of dapo; this batch's when left out. */
  num_items?: number
  /** Two-sided clipping: the unclipped ratio is cut at this value (INTELLECT-2); none when left out or null. */
  delta?: number | null
  /** Slopes of sapo for positive and other advantages; TRL's defaults 1 and 1.05. */
  sapo_temperature_pos?: number
  sapo_temperature_neg?: number
}

/** Log-probabilities and entropies, [rows * completionLength], in nats, 0 at padding. */
export interface TokenScores {
  logps: Float32Array
  entropies: Float32Array
}

/** Token scores, and where the draws of each token begin. */
export interface DrawScores extends TokenScores {
  /** [rows * completionLength]: the probability of all tokens before this one; it is drawn by below <= u < below + p. */
  below: Float32Array
}

/** Statistics of one loss call over its real completion tokens. */
export interface LossMetrics {
  ratioMean: number
  /** Fraction of tokens clipped from below (negative advantage). */
  clipRatioLow: number
  /** Fraction of tokens clipped from above (positive advantage). */
  clipRatioHigh: number
  /** Mean of the k3 estimator; 0 without reference. */
  kl: number
  entropy: number
}

/** The loss and its gradient, flat, in the order of the adapter layout. */
export interface LossResult {
  loss: number
  gradient: Float32Array
  metrics: LossMetrics
  /** Of every token of the batch, from the same pass. */
  scores: TokenScores
  /**
   * Indices into the layout's tensors that no token reached: the LoRAs of experts that the router chose for none.
   * Their gradient is zero here and absent in PyTorch, whose AdamW then leaves them alone.
   */
  unreached: ReadonlySet<number>
}

/** Unnormalised probabilities in sum: enough to draw tokens of a large vocabulary without computing all of them. */
export interface PartSums {
  /** [rows]: the largest logit. */
  readonly largest: Float32Array
  /** [rows, parts]: sums of exp((logit - largest) / temperature). */
  readonly sums: Float32Array
}

/** How large a decoding is going to be; it may become larger. */
export interface DecodingRoom {
  /** Sequences, after the prompts' rows have been repeated. */
  readonly rows: number
  /** Tokens of a sequence with its prompt. */
  readonly tokens: number
}

/** Autoregressive decoding with a KV cache that grows by one token a row at each step. */
export interface Decoding {
  readonly rows: number
  /** [rows * vocabSize], of the next token of each row; overwritten by the next step. */
  readonly logits: Float32Array
  /**
   * softmax(logits / temperature) of each row, [rows * vocabSize], computed by the engine: a large vocabulary's
   * exponentials take JavaScript as long as a small model's step. Overwritten by the next call.
   */
  probabilities(temperature: number): Promise<Float32Array>
  /** Sums over parts of the vocabulary, computed by the engine; undefined where it has no equal parts. */
  partSums(temperature: number): Promise<PartSums | undefined>
  /** Appends one token to each row. */
  step(tokens: Int32Array): Promise<void>
  /** Keeps, reorders or repeats rows: forks a group from one prompt, drops finished rows. */
  select(rows: readonly number[]): void
  close(): void
}

/** A frozen model with one trainable LoRA adapter. Not re-entrant: one call at a time. */
export interface Policy {
  readonly model: ModelSummary
  readonly engine: string
  /** What computes and why, for the log. */
  readonly engineNote: EngineNote
  /** Versions of the engine's packages. */
  readonly engineVersions: Readonly<Record<string, string>>
  readonly adapterLayout: AdapterLayout
  /** PEFT's initialisation: A kaiming-uniform (a = sqrt 5), B zero; the same for the same seed. */
  initialAdapter(seed: number): Float32Array
  /** Copies `values`; used by everything that follows. */
  setAdapter(values: Float32Array): void
  /** Log-probabilities of the completions, with the adapter or (`adapter: false`) of the base model. */
  logprobs(batch: TokenBatch, options: { temperature: number; adapter: boolean }): Promise<TokenScores>
  /** As `logprobs` with the adapter, and where the draws of each token begin. */
  drawScores(batch: TokenBatch, options: { temperature: number }): Promise<DrawScores>
  lossAndGradient(batch: LossBatch, loss: LossConfig): Promise<LossResult>
  /** How many prompts' groups the memory limit lets decode at once; throws OUT_OF_MEMORY_LIMIT for none. */
  promptsAtOnce(demand: DecodingDemand): number
  /** Runs all prompts at once through the model (prefill); with `room` memory is taken once for all that will come. */
  startDecoding(prompts: readonly Int32Array[], room?: DecodingRoom): Promise<Decoding>
  close(): Promise<void>
}
