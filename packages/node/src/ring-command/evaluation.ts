/** Accuracy of the base model and of the trained adapter on held-out prompts, by one trainer of its own. */
import { SAMPLED_EVALUATION_PASSES } from '../defaults.ts'
import { mean } from './run-model.ts'
import { spawnTrainer, type GSPOConfig, type Trainer } from '@gym-node/gspo'

/** One evaluation in both ways of decoding. */
export interface Accuracy {
  readonly sampled: Evaluation
  readonly greedy: Evaluation
}

/** Completions, the share of them that equal the answer, and their mean reward. */
export interface Evaluation {
  readonly samples: number
  readonly accuracy: number
  readonly rewardMean: number
}

/** Evaluates adapters on `dataset`; the engine stays open between calls, until `close`. */
export class Evaluator {
  readonly #trainer: Trainer
  readonly #dataset: string
  readonly #seed: number

  private constructor(trainer: Trainer, dataset: string, seed: number) {
    this.#trainer = trainer
    this.#dataset = dataset
    this.#seed = seed
  }

  /** Loads the model. Before `useAdapter` it evaluates the base model. */
  static async open(config: GSPOConfig, dataset: string, signal: AbortSignal): Promise<Evaluator> {
    return new Evaluator(await spawnTrainer(config, { signal }), dataset, config.seed ?? 0)
  }

  get model(): Trainer['info']['model'] {
    return this.#trainer.info.model
  }

  /** Puts a trained adapter on the model. */
  async useAdapter(adapter: Float32Array): Promise<void> {
    await this.#trainer.writeAdapter(adapter)
  }

  /** Decodes every held-out prompt: sampled, with the same draws in each call, several times over; and greedy, once. */
  async evaluate(signal: AbortSignal): Promise<Accuracy> {
    const dataset = this.#dataset
    const passes: Evaluation[] = []
    for (let pass = 0; pass < SAMPLED_EVALUATION_PASSES; pass++) {
      passes.push(await this.#trainer.evaluate({ dataset, mode: 'sample', seed: this.#seed + pass, signal }))
    }
    const greedy = await this.#trainer.evaluate({ dataset, mode: 'greedy', signal })
    const sampled = {
      samples: passes.reduce((sum, { samples }) => sum + samples, 0),
      accuracy: mean(passes.map(({ accuracy }) => accuracy)),
      rewardMean: mean(passes.map(({ rewardMean }) => rewardMean)),
    }
    return { sampled, greedy }
  }

  /** Writes the adapter that is on the model as a PEFT folder. */
  async exportAdapter(folder: string): Promise<void> {
    await this.#trainer.exportAdapter(folder)
  }

  async close(): Promise<void> {
    await this.#trainer.close()
  }
}
