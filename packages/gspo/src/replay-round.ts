/** Replaying a round from files: base state and traces in, the adapter after it out, on an engine of its own. */
import type { GSPOConfig } from './config.ts'
import { createTrainer } from './trainer.ts'
import type { StepTrace } from './trace/types.ts'
import type { ReplayedStep, ReplayOptions } from './trainer-types.ts'

/** What a replay starts from. */
export interface ReplayRoundInput extends ReplayOptions {
  readonly config: GSPOConfig
  /** exportState() bytes from before the round. */
  readonly state: Uint8Array
  readonly traces: readonly StepTrace[]
}

/** What it ends with. */
export interface ReplayedRound {
  readonly steps: readonly ReplayedStep[]
  readonly adapter: Float32Array
  /** exportState() bytes after the round. */
  readonly state: Uint8Array
}

/**
 * Recomputes a round's updates without sampling; bit-identical on the engine, version and thread count that wrote the
 * traces. Throws what createTrainer, importState and replay throw; blocks this thread while it computes.
 */
export async function replayRound({
  config,
  state,
  traces,
  ...options
}: ReplayRoundInput): Promise<ReplayedRound> {
  const trainer = await createTrainer(config)
  try {
    await trainer.importState(state)
    const steps = await trainer.replay(traces, options)
    return { steps, adapter: await trainer.readAdapter(), state: await trainer.exportState() }
  } finally {
    await trainer.close()
  }
}
