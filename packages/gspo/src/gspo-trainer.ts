/** The package's entry for scripts: `GSPOTrainer.create(config)` in this process, `GSPOTrainer.spawn(config)` in a child. */
import type { GSPOConfig } from './config.ts'
import { spawnTrainer } from './process/spawn.ts'
import type { SpawnOptions } from './process/spawn.ts'
import { createTrainer } from './trainer.ts'
import type { Trainer } from './trainer-types.ts'

/** A GSPO trainer (arXiv 2507.18071) for LoRA adapters. */
export type GSPOTrainer = Trainer

/** Makes trainers; see createTrainer and spawnTrainer for what they throw. */
export const GSPOTrainer: {
  create(config: GSPOConfig): Promise<GSPOTrainer>
  spawn(config: GSPOConfig, options?: SpawnOptions): Promise<GSPOTrainer>
} = { create: createTrainer, spawn: spawnTrainer }
