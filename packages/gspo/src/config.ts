/**
 * The trainer's configuration: a zod schema with a default for everything but the model and the data. Names follow TRL
 * where TRL has one. Unknown keys are errors.
 */
import { z } from 'zod'
import {
  DEFAULT_EPSILON,
  DEFAULT_EPSILON_HIGH,
  DEFAULT_GROUP_SIZE,
  DEFAULT_HTTP_RETRIES,
  DEFAULT_LEARNING_RATE,
  DEFAULT_LORA_ALPHA,
  DEFAULT_LORA_RANK,
  DEFAULT_MAX_COMPLETION_LENGTH,
  DEFAULT_MAX_DECODING_ROWS,
  DEFAULT_MICRO_BATCH_TOKENS,
  DEFAULT_PROMPTS_PER_STEP,
  DEFAULT_QUANT_BLOCK,
  DEFAULT_REWARD_BATCH_SIZE,
  DEFAULT_REWARD_TIMEOUT_MS,
  DEFAULT_SAMPLE_TIMEOUT_MS,
  DEFAULT_ROLLOUT_CONCURRENCY,
  DEFAULT_ROLLOUT_TIMEOUT_MS,
  DEFAULT_THREADS,
  MAX_TIMER_MS,
  QUANT_BLOCKS,
} from './defaults.ts'
import { GspoError } from './errors.ts'
import { LORA_TARGETS } from './lora.ts'
import { ENGINE_NAMES } from './policy-types.ts'

const positiveInteger = z.int().positive()
const count = z.int().nonnegative()
/** What a timer can wait; a longer one would fire at once. */
const milliseconds = positiveInteger.max(MAX_TIMER_MS)

const rewardBase = {
  weight: z.number().default(1).describe('Factor in the weighted sum'),
  timeout_ms: milliseconds.default(DEFAULT_REWARD_TIMEOUT_MS).describe('Deadline of one call, milliseconds'),
}

const sampleTimeout = milliseconds
  .default(DEFAULT_SAMPLE_TIMEOUT_MS)
  .describe('Processor time that one completion may take, milliseconds; over it the completion has no score')

const moduleReward = z.strictObject({ module: z.string().min(1), ...rewardBase })

const namedReward = z.discriminatedUnion('name', [
  z.strictObject({ name: z.literal('exact_match'), ...rewardBase }),
  z.strictObject({
    name: z.literal('numeric'),
    tolerance: z.number().nonnegative().default(1e-6),
    ...rewardBase,
  }),
  z.strictObject({
    name: z.literal('regex'),
    pattern: z.string(),
    flags: z.string().default('u'),
    match_answer: z.boolean().default(false),
    sample_timeout_ms: sampleTimeout,
    ...rewardBase,
  }),
  z.strictObject({
    name: z.literal('json'),
    schema: z.union([z.string(), z.record(z.string(), z.unknown())]).optional(),
    sample_timeout_ms: sampleTimeout,
    ...rewardBase,
  }),
  z.strictObject({
    name: z.literal('length'),
    max_tokens: positiveInteger,
    soft_tokens: positiveInteger,
    ...rewardBase,
  }),
  z.strictObject({
    name: z.literal('http'),
    url: z.url({ protocol: /^https?$/ }),
    headers: z.record(z.string(), z.string()).default({}),
    batch_size: positiveInteger.default(DEFAULT_REWARD_BATCH_SIZE),
    retries: count.default(DEFAULT_HTTP_RETRIES),
    deterministic: z.boolean().default(false),
    ...rewardBase,
  }),
])

/** One reward: built in by name, or a user's module. */
export const rewardConfigSchema = z.union([moduleReward, namedReward], { error: describeBadReward })

/** What is wrong with a reward, by the kind that it was meant to be; a union alone says only "Invalid input". */
function describeBadReward(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code !== 'invalid_union') return undefined
  const { input } = issue
  const isModule = typeof input === 'object' && input !== null && 'module' in input
  const errors = issue.errors[isModule ? 0 : 1] ?? []
  return errors.map(({ path, message }) => [...path, message].join(': ')).join('; ')
}

/** See rewardConfigSchema. */
export type RewardConfig = z.infer<typeof rewardConfigSchema>

/** A server that samples, and how its adapter is renewed before every step. */
const rolloutServerSchema = z.strictObject({
  url: z.url({ protocol: /^https?$/ }).describe('Base address, such as http://127.0.0.1:8000/v1'),
  api_key: z.string().min(1).optional().describe('Sent as a bearer token'),
  adapter_name: z.string().min(1).default('gym').describe('Name under which the server serves the adapter'),
  adapter_dir: z
    .string()
    .min(1)
    .describe('Folder that this process writes and the server reads the adapter from'),
  load_path: z
    .string()
    .default('load_lora_adapter')
    .describe('Path that loads an adapter; one with a leading slash starts at the host (SGLang)'),
  unload_path: z.string().default('unload_lora_adapter').describe('Path that unloads it'),
  concurrency: positiveInteger.default(DEFAULT_ROLLOUT_CONCURRENCY).describe('Requests at once'),
  timeout_ms: milliseconds
    .default(DEFAULT_ROLLOUT_TIMEOUT_MS)
    .describe('Deadline of one request, milliseconds'),
  retries: count.default(DEFAULT_HTTP_RETRIES).describe('Tries after the first one'),
})

/** The trainer's configuration; paths are relative to the working directory. */
export const gspoConfigSchema = z.strictObject({
  // --- model
  model: z.string().min(1).describe('Hugging Face model folder'),
  engine: z
    .enum(ENGINE_NAMES)
    .default('auto')
    .describe(
      'What computes: onnx-cpu; onnx-webgpu, which needs a Vulkan GPU; tfjs, which needs TensorFlow.js installed; auto takes a GPU where it pays, else onnx-cpu',
    ),
  threads: positiveInteger.default(DEFAULT_THREADS).describe('Threads of the engine'),
  memory_limit_mb: positiveInteger
    .optional()
    .describe(
      'Memory that the engine may take, MB of 2^20 bytes; batches run in smaller parts, and layers twice, to keep below it',
    ),
  gradient_checkpointing: z
    .union([z.literal('auto'), z.boolean()])
    .default('auto')
    .describe(
      'Compute layers again in the backward pass instead of keeping them; auto where memory asks for it',
    ),
  use_4bit: z.boolean().default(false).describe('Keep the frozen weights in 4 bits'),
  use_8bit_head: z
    .boolean()
    .default(false)
    .describe(
      'With use_4bit: train with the head in the 8 bits that sampling uses, instead of exact floats of 4 bytes',
    ),
  quant_block_size: z
    .literal([...QUANT_BLOCKS])
    .default(DEFAULT_QUANT_BLOCK)
    .describe('Weights of a row that share a scale in 4 bits; smaller is closer to float32 and slower'),
  lora_rank: positiveInteger.default(DEFAULT_LORA_RANK).describe('Rank of the adapter'),
  lora_alpha: z
    .number()
    .positive()
    .default(DEFAULT_LORA_ALPHA)
    .describe('The adapter is scaled by lora_alpha / lora_rank'),
  lora_targets: z
    .array(z.enum(LORA_TARGETS))
    .nonempty()
    .default([...LORA_TARGETS])
    .describe('Linear layers that carry an adapter'),
  use_rslora: z.boolean().default(false).describe('Scale the adapter by lora_alpha / sqrt(lora_rank)'),
  adapter: z
    .string()
    .min(1)
    .optional()
    .describe('PEFT adapter folder to start from instead of a fresh adapter'),
  adapter_seed: count
    .default(0)
    .describe('Draws the fresh adapter; nodes of one ring share it while their `seed` differs'),

  // --- data and rewards
  dataset: z
    .union([z.string().min(1), z.array(z.string().min(1)).nonempty()])
    .describe('JSONL files, read one after another'),
  shuffle_dataset: z.boolean().default(true).describe('Read the rows in a new random order every epoch'),
  chat_template_kwargs: z
    .record(z.string(), z.unknown())
    .default({})
    .describe(
      "More variables for the model's chat template, such as {enable_thinking: false} or {tools: [...]}",
    ),
  rewards: z
    .array(rewardConfigSchema)
    .nonempty()
    .default([{ name: 'exact_match', weight: 1, timeout_ms: DEFAULT_REWARD_TIMEOUT_MS }])
    .describe('Reward functions by name or module, with weights'),

  // --- rollout
  seed: count.default(0).describe('Draws data order and samples'),
  prompts_per_step: positiveInteger.default(DEFAULT_PROMPTS_PER_STEP).describe('Prompts of one rollout'),
  group_size: z
    .int()
    .min(2)
    .default(DEFAULT_GROUP_SIZE)
    .describe('Completions of one prompt; num_generations, as TRL calls it, is taken too'),
  max_completion_length: positiveInteger
    .default(DEFAULT_MAX_COMPLETION_LENGTH)
    .describe('Tokens; longer completions are cut'),
  temperature: z.number().positive().default(1).describe('Divides the logits, in sampling and in the loss'),
  top_k: count.default(0).describe('Sample from this many likeliest tokens; 0 switches the filter off'),
  top_p: z
    .number()
    .positive()
    .max(1)
    .default(1)
    .describe('Sample from the likeliest tokens that reach this probability; 1 switches the filter off'),
  min_p: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe('Leave out tokens below this share of the likeliest one; 0 switches the filter off'),
  stop: z.array(z.string().min(1)).default([]).describe('A completion ends after any of these texts'),
  max_decoding_rows: positiveInteger.default(DEFAULT_MAX_DECODING_ROWS).describe('Sequences decoded at once'),
  rollout_server: rolloutServerSchema
    .optional()
    .describe('OpenAI-compatible server (vLLM, SGLang) that samples instead of this engine'),

  // --- loss
  beta: z
    .number()
    .nonnegative()
    .default(0)
    .describe('Weight of the KL divergence to the base model; 0 needs no reference'),
  use_bias_correction_kl: z.boolean().default(true).describe('Weight the KL term by the importance ratio'),
  epsilon: z.number().nonnegative().default(DEFAULT_EPSILON).describe('Clip range below a ratio of 1'),
  epsilon_high: z
    .number()
    .nonnegative()
    .default(DEFAULT_EPSILON_HIGH)
    .describe('Clip range above a ratio of 1'),
  delta: z
    .number()
    .positive()
    .nullable()
    .default(null)
    .describe('Largest ratio before clipping (two-sided clipping); null has no limit'),
  sapo_temperature_pos: z.number().positive().default(1).describe('Slope of sapo for positive advantages'),
  sapo_temperature_neg: z.number().positive().default(1.05).describe('Slope of sapo for other advantages'),
  importance_sampling_level: z
    .enum(['sequence', 'token', 'sequence_token'])
    .default('sequence')
    .describe('sequence is GSPO, token is GRPO, sequence_token is GSPO-token'),
  loss_type: z
    .enum(['grpo', 'bnpo', 'dapo', 'dr_grpo', 'luspo', 'cispo', 'sapo'])
    .default('grpo')
    .describe('How token losses are averaged; grpo is the GSPO paper'),
  scale_rewards: z
    .enum(['group', 'batch', 'none'])
    .default('group')
    .describe('What centred rewards are divided by: the deviation of the group, of the batch, or nothing'),
  mask_truncated_completions: z
    .boolean()
    .default(false)
    .describe('Leave completions cut at max_completion_length out of the loss'),
  router_aux_loss_coef: z
    .number()
    .nonnegative()
    .default(0)
    .describe('Weight of the load-balancing loss of mixture-of-experts models'),

  // --- optimiser
  steps_per_generation: positiveInteger
    .default(1)
    .describe('Minibatches that one rollout is split into, one update each'),
  num_iterations: positiveInteger.default(1).describe('Passes over one rollout'),
  micro_batch_tokens: positiveInteger
    .default(DEFAULT_MICRO_BATCH_TOKENS)
    .describe('Tokens (rows x padded length) of one forward and backward pass'),
  learning_rate: z
    .number()
    .nonnegative()
    .default(DEFAULT_LEARNING_RATE)
    .describe('Peak learning rate of AdamW'),
  lr_scheduler_type: z
    .enum(['constant', 'constant_with_warmup', 'linear', 'cosine'])
    .default('constant')
    .describe('Learning rate over the updates'),
  warmup_steps: count.default(0).describe('Optimiser updates of linear warm-up; constant has none'),
  max_steps: positiveInteger
    .optional()
    .describe('Optimiser updates of the whole run; `linear` and `cosine` need it'),
  adam_beta1: z.number().min(0).lt(1).default(0.9).describe('Decay of the first moment'),
  adam_beta2: z.number().min(0).lt(1).default(0.999).describe('Decay of the second moment'),
  adam_epsilon: z.number().positive().default(1e-8).describe('Added to the root of the second moment'),
  weight_decay: z.number().nonnegative().default(0).describe('Decoupled weight decay'),
  max_grad_norm: z
    .number()
    .nonnegative()
    .default(1)
    .describe('Gradients are scaled down to this norm; 0 switches clipping off'),
})

/** The configuration with every default filled in. */
export type ResolvedConfig = z.output<typeof gspoConfigSchema>

/** The configuration as a user writes it: only `model` and `dataset` are required. */
export type GSPOConfig = z.input<typeof gspoConfigSchema> & {
  /** TRL's name of `group_size`. */
  num_generations?: number
}

/** Checks a configuration and fills in defaults. Throws GspoError BAD_CONFIG that lists every bad key. */
export function resolveConfig(config: unknown): ResolvedConfig {
  const parsed = gspoConfigSchema.safeParse(withoutAliases(config))
  if (!parsed.success)
    throw new GspoError('BAD_CONFIG', `bad training config:\n${z.prettifyError(parsed.error)}`)
  const resolved = parsed.data
  const completions = resolved.prompts_per_step * resolved.group_size
  if (completions % resolved.steps_per_generation !== 0)
    throw new GspoError(
      'BAD_CONFIG',
      `prompts_per_step x group_size = ${completions} completions cannot be split into steps_per_generation = ${resolved.steps_per_generation} equal minibatches`,
    )
  if (resolved.use_8bit_head && !resolved.use_4bit)
    throw new GspoError('BAD_CONFIG', 'use_8bit_head is true without use_4bit: set both, or neither')
  if (resolved.loss_type === 'cispo' && resolved.epsilon_high < 1)
    throw new GspoError(
      'BAD_CONFIG',
      `loss_type cispo cuts ratios at epsilon_high itself, which is ${resolved.epsilon_high}: below 1 it cuts nearly every one; set epsilon_high, such as 5 (ScaleRL, arXiv 2510.13786)`,
    )
  const decays = resolved.lr_scheduler_type === 'linear' || resolved.lr_scheduler_type === 'cosine'
  if (decays && resolved.max_steps === undefined)
    throw new GspoError(
      'BAD_CONFIG',
      `lr_scheduler_type ${resolved.lr_scheduler_type} needs max_steps, the optimiser updates of the whole run`,
    )
  return resolved
}

/**
 * A configuration whose aliases have become the keys that they stand for; anything else is left to the schema. Throws
 * GspoError BAD_CONFIG where both are given and differ.
 */
export function withoutAliases(config: unknown): unknown {
  if (typeof config !== 'object' || config === null || !('num_generations' in config)) return config
  const { num_generations: alias, ...rest } = config
  if ('group_size' in rest && rest.group_size !== undefined && rest.group_size !== alias)
    throw new GspoError(
      'BAD_CONFIG',
      `group_size is ${JSON.stringify(rest.group_size)} and num_generations, another name for it, is ${JSON.stringify(alias)}: give one of them`,
    )
  return { ...rest, group_size: alias }
}
