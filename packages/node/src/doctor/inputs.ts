/** What the daemon would read before it trains: model, engine, data set, rewards and key, checked as the start does. */
import { examineDataset, examineEngine, examineModel, examineRewards } from '@gym-node/gspo'
import { formatCount } from '../cli/format.ts'
import { presentError } from '../cli/present.ts'
import type { NodeConfig } from '../config/schema.ts'
import { trainerSettings } from '../config/trainer-settings.ts'
import { messageOf } from '../errors.ts'
import { readSwarmKey } from '../network/ring-network.ts'
import { finding, type Finding } from './finding.ts'

/** One finding an input. Reads whole data sets and loads reward modules, but no weights; changes nothing. */
export async function examineInputs(config: NodeConfig): Promise<Finding[]> {
  const found = await model(config)
  const isWhole = found.verdict !== 'fault'
  return [
    found,
    ...(isWhole ? [await engine(config), await dataset(config)] : []),
    await rewards(config),
    ...(config.network.swarm_key_file === null ? [] : [await swarmKey(config.network.swarm_key_file)]),
  ]
}

async function model(config: NodeConfig): Promise<Finding> {
  const settings = trainerSettings(config)
  return look('model', 'set train.model to a whole Hugging Face model folder', async () => {
    const { architecture, parameters, files, maxPositions } = await examineModel(settings)
    const weights = files === 1 ? '1 weight file' : `${files} weight files`
    const seen = `${architecture}, ${formatCount(parameters)} parameters in ${weights}, ${maxPositions} positions`
    return finding('ok', 'model', `${seen}; ${settings.model}`)
  })
}

/** What `train.engine` means here. */
async function engine(config: NodeConfig): Promise<Finding> {
  return look('engine', 'or set train.engine to auto or onnx-cpu', async () => {
    const { text, isWarning } = await examineEngine(trainerSettings(config))
    return finding(isWarning ? 'warning' : 'ok', 'engine', text)
  })
}

async function dataset(config: NodeConfig): Promise<Finding> {
  const settings = trainerSettings(config)
  return look('data set', 'set train.dataset to JSONL files with prompt and answer', async () => {
    const { rows, withoutAnswer } = await examineDataset(settings)
    const seen = `${formatCount(rows)} rows in ${[settings.dataset].flat().join(', ')}`
    if (withoutAnswer === 0) return finding('ok', 'data set', seen)
    return finding(
      'warning',
      'data set',
      `${seen}, ${formatCount(withoutAnswer)} without an "answer"`,
      'exact_match and numeric give such rows no score; a reward of yours may',
    )
  })
}

async function rewards(config: NodeConfig): Promise<Finding> {
  return look('rewards', 'correct train.rewards', async () => {
    const names = await examineRewards(trainerSettings(config).rewards)
    return finding('ok', 'rewards', names.join(', '))
  })
}

async function swarmKey(path: string): Promise<Finding> {
  return look('swarm key', 'name a file that `gym-node swarm-key` has written', async () => {
    await readSwarmKey(path)
    return finding('ok', 'swarm key', path)
  })
}

/** What `examine` finds, or the fault that it throws, under the code that the start would end with. */
async function look(what: string, advice: string, examine: () => Promise<Finding>): Promise<Finding> {
  try {
    return await examine()
  } catch (error) {
    return finding('fault', what, `${presentError(error).code}: ${messageOf(error)}`, advice)
  }
}
