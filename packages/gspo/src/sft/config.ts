/** The configuration of a supervised warm-start. Names follow transformers' TrainingArguments where it has one. */
import { z } from 'zod'
import { DEFAULT_THREADS } from '../defaults.ts'
import { GspoError } from '../errors.ts'

const positiveInteger = z.int().positive()

/** Paths are relative to the working directory. */
export const sftConfigSchema = z.strictObject({
  model: z
    .string()
    .min(1)
    .describe('Folder with config.json and tokenizer; its weights, if any, are not used'),
  dataset: z
    .union([z.string().min(1), z.array(z.string().min(1)).nonempty()])
    .describe('JSONL files with prompt and answer'),
  eval_dataset: z.string().min(1).optional().describe('JSONL file whose accuracy is watched'),
  output_dir: z.string().min(1).describe('Model folder to write'),
  checkpoint_dir: z
    .string()
    .min(1)
    .optional()
    .describe('Folder that every evaluation leaves the whole state in, and that a run goes on from'),
  threads: positiveInteger.default(DEFAULT_THREADS).describe('Threads of the engine'),
  seed: z.int().nonnegative().default(0).describe('Draws first weights and data order'),
  batch_size: positiveInteger.default(256).describe('Rows of one update'),
  max_steps: positiveInteger.default(1000).describe('Most updates'),
  learning_rate: z.number().positive().default(2e-3).describe('Peak learning rate'),
  lr_scheduler_type: z
    .enum(['constant', 'constant_with_warmup', 'linear', 'cosine'])
    .default('cosine')
    .describe('Learning rate over the updates'),
  warmup_steps: z.int().nonnegative().default(0).describe('Updates of linear warm-up'),
  adam_beta1: z.number().min(0).lt(1).default(0.9).describe('Decay of the first moment'),
  adam_beta2: z.number().min(0).lt(1).default(0.99).describe('Decay of the second moment'),
  adam_epsilon: z.number().positive().default(1e-8).describe('Added to the root of the second moment'),
  weight_decay: z.number().nonnegative().default(0.01).describe('Decoupled weight decay'),
  max_grad_norm: z
    .number()
    .nonnegative()
    .default(1)
    .describe('Gradients are scaled down to this norm; 0 switches clipping off'),
  eval_steps: positiveInteger
    .default(40)
    .describe('Updates between two evaluations, each of which writes output_dir'),
  eval_limit: positiveInteger.default(1000).describe('Rows of eval_dataset that are used'),
  stop_at_accuracy: z
    .number()
    .positive()
    .max(1)
    .optional()
    .describe('Ends training when the accuracy of sampling on eval_dataset reaches this'),
  lr_drop_at_accuracy: z
    .number()
    .positive()
    .max(1)
    .optional()
    .describe('Accuracy of sampling on eval_dataset from which on the learning rate is lower'),
  lr_drop_factor: z
    .number()
    .positive()
    .max(1)
    .default(0.15)
    .describe('What the learning rate is multiplied by from lr_drop_at_accuracy on'),
})

/** As a user writes it. */
export type SftConfig = z.input<typeof sftConfigSchema>

/** With every default filled in. */
export type ResolvedSftConfig = z.output<typeof sftConfigSchema>

/** Checks a configuration. Throws GspoError BAD_CONFIG. */
export function resolveSftConfig(config: unknown): ResolvedSftConfig {
  const parsed = sftConfigSchema.safeParse(config)
  if (!parsed.success) throw new GspoError('BAD_CONFIG', `bad sft config:\n${z.prettifyError(parsed.error)}`)
  for (const key of ['stop_at_accuracy', 'lr_drop_at_accuracy'] as const)
    if (parsed.data[key] !== undefined && parsed.data.eval_dataset === undefined)
      throw new GspoError('BAD_CONFIG', `${key} needs eval_dataset`)
  return parsed.data
}
