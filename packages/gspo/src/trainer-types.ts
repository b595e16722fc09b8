/** What a trainer is, wherever its engine runs: the contract that the in-process and the child-process one share. */
import type { EngineNote } from './engine/engine.ts'
import type { AdapterLayout } from './lora.ts'
import type { ModelSummary } from './policy-types.ts'
import type { StepTrace } from './trace/types.ts'

/** What is known once a trainer is loaded. */
export interface TrainerInfo {
  readonly model: ModelSummary & { readonly dir: string }
  readonly engine: string
  /** What computes and why, for the log. */
  readonly engineNote: EngineNote
  readonly adapterLayout: AdapterLayout
  /** Rows of the training data. */
  readonly datasetSize: number
  /** Rows of the training data and SHA-256 (hex) over its files' bytes in order. */
  readonly dataset: { readonly size: number; readonly sha256: string }
  /** Trainable numbers: the adapter's elements. */
  readonly trainable: number
  /** Versions of what computes, for traces. */
  readonly versions: Readonly<Record<string, string>>
}

/** Statistics of one step; names as TRL users know them, in camel case. */
export interface StepStats {
  /** Number of the step, 1 for the first one. */
  readonly step: number
  readonly loss: number
  /** Mean over scorable completions; 0 where none is scorable (see `unscorable`). */
  readonly rewardMean: number
  /** Deviation (n - 1) over all scorable completions, as TRL's reward_std; 0 of fewer than two. */
  readonly rewardStd: number
  readonly clipRatioLow: number
  readonly clipRatioHigh: number
  readonly kl: number
  /** Mean over the tokens that took part in the loss, nats; 0 where none did (no group had a signal). */
  readonly entropy: number
  readonly gradNorm: number
  readonly learningRate: number
  readonly ratioMean: number
  /** Tokens, the end token included. */
  readonly completionLengthMean: number
  readonly completionLengthMin: number
  readonly completionLengthMax: number
  /** Share of completions cut at max_completion_length. */
  readonly truncatedFraction: number
  /** Share of groups whose rewards are all equal: they carry no signal. */
  readonly zeroVarianceFraction: number
  /** Completions that no reward could score. */
  readonly unscorable: number
  readonly groups: number
  readonly completions: number
  readonly promptTokens: number
  readonly generatedTokens: number
  /** Generated tokens by the whole step's seconds. */
  readonly tokensPerSecond: number
  /** Largest resident memory of the engine's process so far, bytes. */
  readonly peakMemoryBytes: number
  /** Mean of each reward function's scores, in the order of the configuration; 0 where it scored nothing. */
  readonly rewardMeans: readonly { readonly name: string; readonly mean: number }[]
  readonly seconds: {
    readonly rollout: number
    readonly reward: number
    readonly forwardBackward: number
    readonly optimizer: number
    readonly total: number
  }
}

/** A completion that a reward function could not score. */
export interface StepRewardFailure {
  readonly dataPosition: number
  /** Place of the completion in its group. */
  readonly completion: number
  readonly reward: string
  readonly message: string
}

/** What a step returns. */
export interface StepRecord {
  readonly stats: StepStats
  readonly trace: StepTrace
  /** The first failures of reward functions, at most MAX_REPORTED_REWARD_FAILURES. */
  readonly rewardFailures: readonly StepRewardFailure[]
  /** The best, a middle and the worst completion as text, at most three, for people to read. */
  readonly samples: readonly StepSample[]
}

/** A completion as text. */
export interface StepSample {
  readonly prompt: string
  readonly completion: string
  /** NaN where it could not be scored. */
  readonly reward: number
}

/** What `evaluate` is asked. */
export interface EvaluateOptions {
  /** JSONL file. */
  readonly dataset: string
  /** First rows only; 1 or more. */
  readonly limit?: number
  readonly mode: 'greedy' | 'sample'
  /** Draws the samples; 0 when left out. */
  readonly seed?: number
  readonly signal?: AbortSignal
}

/** What `evaluate` found. */
export interface Evaluation {
  readonly samples: number
  /** Mean over scorable completions; 0 where none is scorable. */
  readonly rewardMean: number
  /** Share of completions that equal the answer, both trimmed. */
  readonly accuracy: number
  readonly completionLengthMean: number
}

/** What a replay does besides the updates. */
export interface ReplayOptions {
  /**
   * For each step the groups (by index) whose draws are repeated from the seed, under the policy before that step: by
   * the same pass as `recompute`, or by sampling again where top_k, top_p or min_p filter the samples.
   */
  readonly resample?: readonly (readonly number[])[]
  /** For each step the groups whose logprobs and entropies are recomputed; all when left out. */
  readonly recompute?: readonly (readonly number[])[]
  /** Whether rewards are computed again; true when left out. When false they are NaN. */
  readonly rescore?: boolean
  /** The seed of the worker whose steps these are; the trainer's own when left out. */
  readonly seed?: number
  readonly signal?: AbortSignal
}

/** A completion whose draws were repeated. */
export interface RedrawnCompletion {
  readonly isSame: boolean
  /** Where and how it differs, in words; empty when it does not. */
  readonly difference: string
}

/** One step computed again from its trace, beside what the trace should have held. */
export interface ReplayedStep {
  readonly stats: StepStats
  /** The seed a step would have used here. */
  readonly expectedSeed: number
  readonly groups: readonly {
    readonly expectedDataPosition: number
    /** The data set's row at that position, tokenised. */
    readonly expectedPromptIds: Int32Array
    /** Whether its logprobs were asked for; those of other groups came with the loss, which picks them by reward. */
    readonly isRecomputed: boolean
    /** What the seed draws, one entry a completion; null where not asked for. */
    readonly redrawn: readonly RedrawnCompletion[] | null
    readonly completions: readonly {
      /**
       * Recomputed under the policy before this step's updates, by one teacher-forced pass; empty where they were not
       * asked for and did not come with the loss.
       */
      readonly logps: Float32Array
      /** Entropy of the policy at each token, at the temperature, nats: honest samples have mean -logp near it; as `logps`. */
      readonly entropies: Float32Array
      readonly reward: number
      readonly components: readonly number[]
      /** Whether every reward declares that equal samples get equal scores. */
      readonly rewardIsDeterministic: boolean
    }[]
  }[]
}

/** A GSPO trainer. Calls are queued: one runs at a time. */
export interface Trainer {
  readonly info: TrainerInfo
  /**
   * One rollout batch and its steps_per_generation x num_iterations optimiser updates. Rejects with GspoError; the
   * state is then what it was before and the trainer usable, whether it failed or was cancelled (CANCELLED). A child
   * process that does not react to a cancel within CHILD_STOP_GRACE_MS is killed: then it is ENGINE_DIED for all calls.
   */
  step(options?: { signal?: AbortSignal }): Promise<StepRecord>
  /** Computes steps again from their traces, from the current state, without sampling. Throws BAD_TRACE. */
  replay(steps: readonly StepTrace[], options?: ReplayOptions): Promise<ReplayedStep[]>
  /** A copy of the adapter, in the order of `info.adapterLayout`. */
  readAdapter(): Promise<Float32Array>
  /** Replaces the adapter; moments and counters stay. Throws BAD_ADAPTER on a wrong length or a non-finite number. */
  writeAdapter(values: Float32Array): Promise<void>
  /** Completes a data set without learning; changes nothing. Throws BAD_OPTION for options that mean nothing. */
  evaluate(options: EvaluateOptions): Promise<Evaluation>
  /** Adapter, moments, counters and data position; equal states give equal bytes. */
  exportState(): Promise<Uint8Array>
  /** Continues from exported bytes, bit for bit. Throws BAD_STATE. */
  importState(bytes: Uint8Array): Promise<void>
  /** Writes a PEFT adapter folder that transformers and vLLM load. Throws FILE_UNWRITABLE; then nothing of it is left. */
  exportAdapter(dir: string): Promise<void>
  close(): Promise<void>
}
