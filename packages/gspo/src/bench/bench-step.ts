/** Times whole GSPO steps of one group on random prompts, split into their parts; the trainer itself runs. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { GspoError } from '../errors.ts'
import { readModelConfig } from '../models/config.ts'
import type { EngineName } from '../policy-types.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import { spawnTrainer } from '../process/spawn.ts'
import type { StepStats } from '../trainer-types.ts'

/** What to time. */
export interface BenchStepOptions {
  /** Hugging Face model folder. */
  readonly model: string
  /** Completions of the one prompt of a step. */
  readonly group: number
  /** Tokens of the prompt; a tokenizer that joins words may make it a few less. */
  readonly promptLength: number
  /** Tokens of a completion; one that ends by itself is shorter. */
  readonly completion: number
  /** Steps that count; one more runs first and is left out. */
  readonly steps: number
  readonly loraRank: number
  readonly threads: number
  readonly use4bit: boolean
  /** MB of 2^20 bytes; none when left out. */
  readonly memoryLimitMb?: number
  readonly engine: EngineName
}

/** Means over the counted steps; keys as the command prints them. */
export interface BenchStepReport {
  readonly seconds_per_step: number
  readonly generate_s: number
  readonly forward_backward_s: number
  readonly optimizer_s: number
  readonly generated_tokens_per_s: number
  /** Largest resident memory of this process and the engine's in sum, MB of 2^20 bytes. */
  readonly peak_rss_mb: number
  readonly engine: string
  readonly steps: number
  readonly generated_tokens_per_step: number
}

/** Ids of the first tokens that are left out of prompts: padding and other special ones by custom. */
const SPECIAL_IDS = 3

/** Seed of the prompts and of the sampling. */
const SEED = 0

/** Runs the steps; throws what loading and training throw, and BAD_OPTION for fewer than one step. */
export async function benchStep(options: BenchStepOptions): Promise<BenchStepReport> {
  if (!Number.isInteger(options.steps) || options.steps < 1)
    throw new GspoError('BAD_OPTION', `steps is ${options.steps}; it must be a whole number of at least 1`)
  const folder = await mkdtemp(path.join(tmpdir(), 'gym-bench-'))
  try {
    const dataset = path.join(folder, 'prompts.jsonl')
    await writeFile(dataset, await randomPrompts(options))
    const trainer = await spawnTrainer({
      model: options.model,
      dataset,
      rewards: [
        { module: path.join(import.meta.dirname, `digit-reward${path.extname(import.meta.filename)}`) },
      ],
      group_size: options.group,
      prompts_per_step: 1,
      max_completion_length: options.completion,
      lora_rank: options.loraRank,
      lora_alpha: 2 * options.loraRank,
      learning_rate: 1e-4,
      threads: options.threads,
      use_4bit: options.use4bit,
      ...(options.memoryLimitMb === undefined ? {} : { memory_limit_mb: options.memoryLimitMb }),
      engine: options.engine,
      seed: SEED,
    })
    try {
      await trainer.step()
      const stats: StepStats[] = []
      for (let step = 0; step < options.steps; step++) stats.push((await trainer.step()).stats)
      return report(stats, trainer.info.engine)
    } finally {
      await trainer.close()
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function report(stats: readonly StepStats[], engine: string): BenchStepReport {
  const mean = (of: (step: StepStats) => number): number =>
    stats.reduce((sum, step) => sum + of(step), 0) / stats.length
  const generateSeconds = mean(({ seconds }) => seconds.rollout)
  const generatedTokens = mean((step) => step.generatedTokens)
  return {
    seconds_per_step: mean(({ seconds }) => seconds.total),
    generate_s: generateSeconds,
    forward_backward_s: mean(({ seconds }) => seconds.forwardBackward),
    optimizer_s: mean(({ seconds }) => seconds.optimizer),
    generated_tokens_per_s: generatedTokens / generateSeconds,
    peak_rss_mb: Math.round(
      process.resourceUsage().maxRSS / 1024 + (stats.at(-1)?.peakMemoryBytes ?? 0) / 2 ** 20,
    ),
    engine,
    steps: stats.length,
    generated_tokens_per_step: generatedTokens,
  }
}

/** One JSONL line a step, each the text of random ids. */
async function randomPrompts({ model, promptLength, steps }: BenchStepOptions): Promise<string> {
  const { vocabSize } = await readModelConfig(model)
  const tokenizer = await loadTokenizer(model)
  let state = SEED + 1
  const lines = Array.from({ length: steps + 1 }, () => {
    const ids = Int32Array.from({ length: promptLength }, () => {
      // Lehmer's generator modulo 2^31 - 1: full period, exact in double precision.
      state = (state * 48271) % 2147483647
      return SPECIAL_IDS + (state % (vocabSize - SPECIAL_IDS))
    })
    return JSON.stringify({ prompt: tokenizer.decode(ids), answer: '' })
  })
  return `${lines.join('\n')}\n`
}
