/** The trainer's part of section `train`. Pure. */
import type { ResolvedConfig } from '@gym-node/gspo'
import { loopShape, type NodeConfig } from './schema.ts'

/** Settings for a trainer, without the daemon's own keys and without the seed, which is each worker's own. */
export function trainerSettings(config: NodeConfig): ResolvedConfig {
  const own = Object.fromEntries(Object.entries(config.train).filter(([key]) => !(key in loopShape)))
  return { ...(own as Omit<ResolvedConfig, 'seed'>), seed: config.train.seed ?? 0 }
}
