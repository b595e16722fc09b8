/**
 * The training engine of the daemon: a trainer in its own process that is started again, from the last
 * checkpoint, when it dies. Also the one place where a state becomes durable and reaches the trainer.
 */
import { GspoError, spawnTrainer, type GSPOConfig, type Trainer } from '@gym-node/gspo'
import { ENGINE_RESTARTS } from './defaults.ts'
import { loadCheckpoint, saveCheckpoint, type Checkpoint } from './state/checkpoint.ts'
import type { SharedState } from './state/shared-state.ts'

/** A trainer that survives its process. */
export class Engine {
  readonly #config: GSPOConfig
  readonly #checkpointPath: string
  #trainer: Trainer
  #restarts = 0

  private constructor(config: GSPOConfig, checkpointPath: string, trainer: Trainer) {
    this.#config = config
    this.#checkpointPath = checkpointPath
    this.#trainer = trainer
  }

  /** Starts the process, loads the model and, when there is one, the checkpoint; again when it dies over that. */
  static async start(o: {
    config: GSPOConfig
    checkpointPath: string
    signal: AbortSignal
    onDeath: (error: Error) => void
  }): Promise<{ engine: Engine; checkpoint: Checkpoint | null }> {
    const { config, checkpointPath, signal, onDeath } = o
    for (let deaths = 0; ; deaths++) {
      const checkpoint = await loadCheckpoint(checkpointPath)
      try {
        const trainer = await spawnWith(config, signal, async (loaded) => {
          if (checkpoint !== null) await restore(loaded, checkpoint)
        })
        return { engine: new Engine(config, checkpointPath, trainer), checkpoint }
      } catch (error) {
        if (signal.aborted || !isDeath(error) || deaths >= ENGINE_RESTARTS) throw error
        onDeath(error)
      }
    }
  }

  /** The trainer that works now; another one after `restart`. */
  get trainer(): Trainer {
    return this.#trainer
  }

  /** True when `error` says that the process died and another start is allowed. */
  canRestart(error: unknown): boolean {
    return isDeath(error) && this.#restarts < ENGINE_RESTARTS
  }

  /** Starts a new process from the checkpoint, or from `initial` when no round has been committed yet. */
  async restart(initial: Float32Array, signal: AbortSignal): Promise<void> {
    this.#restarts++
    await this.#trainer.close()
    const checkpoint = await loadCheckpoint(this.#checkpointPath)
    this.#trainer = await spawnWith(this.#config, signal, async (loaded) => {
      if (checkpoint === null) await loaded.writeAdapter(initial)
      else await restore(loaded, checkpoint)
    })
  }

  /** Gives `state` to the trainer and makes both durable, with what deltas still owe, in one file. */
  async install(state: SharedState, residual: Float32Array | null): Promise<void> {
    await this.#trainer.writeAdapter(state.adapter)
    const trainer = await this.#trainer.exportState()
    await saveCheckpoint(this.#checkpointPath, { shared: state, trainer, residual })
    this.#restarts = 0
  }

  async close(): Promise<void> {
    await this.#trainer.close()
  }
}

/**
 * Starts the process; `signal` cuts the start short and nothing after it: a daemon that is asked to stop still has to
 * commit the round that its ring has agreed on, with this engine.
 */
async function spawnCancellably(config: GSPOConfig, signal: AbortSignal): Promise<Trainer> {
  const starting = new AbortController()
  const cancel = (): void => starting.abort(signal.reason)
  if (signal.aborted) cancel()
  signal.addEventListener('abort', cancel, { once: true })
  try {
    return await spawnTrainer(config, { signal: starting.signal })
  } finally {
    signal.removeEventListener('abort', cancel)
  }
}

/** A trainer that `prepare` has been done on; closed when that fails. */
async function spawnWith(
  config: GSPOConfig,
  signal: AbortSignal,
  prepare: (trainer: Trainer) => Promise<void>,
): Promise<Trainer> {
  const trainer = await spawnCancellably(config, signal)
  try {
    await prepare(trainer)
    return trainer
  } catch (error) {
    await trainer.close()
    throw error
  }
}

function isDeath(error: unknown): error is GspoError {
  return error instanceof GspoError && error.code === 'ENGINE_DIED'
}

async function restore(trainer: Trainer, checkpoint: Checkpoint): Promise<void> {
  await trainer.importState(checkpoint.trainer)
  await trainer.writeAdapter(checkpoint.shared.adapter)
}
