/**
 * Keeps the trainer of the last replay open for the next one: loading a model takes longer than replaying a round of a
 * small one, and all workers of a job run the same settings but for their seeds, which a replay is told.
 */

import { GspoError, resolveConfig, type GSPOConfig, type Trainer } from '@gym-node/gspo'

/** One open trainer, for one borrower at a time. */
export class TrainerCache {
  readonly #open: (config: GSPOConfig) => Promise<Trainer>
  #kept: { key: string; trainer: Trainer } | null = null

  constructor(open: (config: GSPOConfig) => Promise<Trainer>) {
    this.#open = open
  }

  /**
   * As `spawnTrainer`, but the borrower's `close` leaves it open. Another configuration closes it and opens one anew, as
   * does an engine that died. The state of the last borrower is still in it.
   */
  readonly lend = async (config: GSPOConfig): Promise<Trainer> => {
    const key = JSON.stringify(resolveConfig(config))
    if (this.#kept?.key !== key) {
      await this.close()
      this.#kept = { key, trainer: await this.#open(config) }
    }
    const { trainer } = this.#kept
    const watched = async <R>(call: Promise<R>): Promise<R> => {
      try {
        return await call
      } catch (error) {
        const isDead = error instanceof GspoError && error.code === 'ENGINE_DIED'
        if (isDead && this.#kept?.trainer === trainer) await this.close()
        throw error
      }
    }
    return {
      info: trainer.info,
      step: (options) => watched(trainer.step(options)),
      replay: (steps, options) => watched(trainer.replay(steps, options)),
      readAdapter: () => watched(trainer.readAdapter()),
      writeAdapter: (values) => watched(trainer.writeAdapter(values)),
      evaluate: (options) => watched(trainer.evaluate(options)),
      exportState: () => watched(trainer.exportState()),
      importState: (bytes) => watched(trainer.importState(bytes)),
      exportAdapter: (dir) => watched(trainer.exportAdapter(dir)),
      close: () => Promise.resolve(),
    }
  }

  /** Closes the trainer that is open; the next one is opened anew. */
  async close(): Promise<void> {
    const kept = this.#kept
    this.#kept = null
    await kept?.trainer.close()
  }
}
