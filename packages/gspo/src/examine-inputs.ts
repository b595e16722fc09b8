/** What a run would read, read and checked as at the start but without the weights: for a look before the start. */
import type { ResolvedConfig } from './config.ts'
import { loadDataset } from './data/dataset.ts'
import { checkPromptLengths } from './data/prompt-lengths.ts'
import { readModelConfig } from './models/config.ts'
import { createRewards } from './rewards/create.ts'
import { closeRewards } from './rewards/score.ts'
import { loadTokenizer } from './tokenizer/tokenizer.ts'
import { openCheckpoint } from './weights/checkpoint.ts'

/** A model folder as far as it can be judged from its headers. */
export interface ModelNote {
  readonly architecture: string
  readonly parameters: number
  /** Weight files that were found whole. */
  readonly files: number
  /** Longest prompt and completion together, tokens. */
  readonly maxPositions: number
}

/** A data set that every row of can be trained on. */
export interface DataNote {
  readonly rows: number
  /** Rows that a reward which compares cannot score. */
  readonly withoutAnswer: number
}

/** Configuration, tokenizer and weight files of a model folder. Throws GspoError like loading it; reads headers only. */
export async function examineModel(
  settings: Pick<ResolvedConfig, 'model' | 'chat_template_kwargs'>,
): Promise<ModelNote> {
  const { architecture, maxPositions } = await readModelConfig(settings.model)
  await loadTokenizer(settings.model, settings.chat_template_kwargs)
  const { files, parameters } = await openCheckpoint(settings.model)
  return { architecture, parameters, files: files.length, maxPositions }
}

/** Every line of the data set, and whether each prompt leaves room for a completion. Throws GspoError. */
export async function examineDataset(
  settings: Pick<ResolvedConfig, 'model' | 'dataset' | 'max_completion_length' | 'chat_template_kwargs'>,
): Promise<DataNote> {
  const { rows } = await loadDataset([settings.dataset].flat())
  const { maxPositions } = await readModelConfig(settings.model)
  const tokenizer = await loadTokenizer(settings.model, settings.chat_template_kwargs)
  checkPromptLengths(rows, tokenizer, {
    maxPositions,
    completionLength: settings.max_completion_length,
    templateVariables: settings.chat_template_kwargs,
  })
  return { rows: rows.length, withoutAnswer: rows.filter(({ answer }) => answer === undefined).length }
}

/** The names of the rewards, each made and given back: modules are loaded. Throws GspoError. */
export async function examineRewards(configs: ResolvedConfig['rewards']): Promise<string[]> {
  const rewards = await createRewards(configs)
  try {
    return rewards.map(({ reward }) => reward.name)
  } finally {
    await closeRewards(rewards)
  }
}
