/** PEFT adapter folders of any LoRA, described by themselves: reading needs no model. gspo does the checking. */

import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import {
  LORA_TARGETS,
  loraTargetOf,
  readAdapterFolder,
  readSafetensorsHeader,
  writeAdapterFolder,
} from '@gym-node/gspo'
import type { AdapterLayout, LoraConfig, LoraTarget } from '@gym-node/gspo'
import type { DeltaLora } from '@gym-node/wire'
import { messageOf, NodeError } from '../errors.ts'
import { byName, flatten, type Adapter } from './adapter.ts'

const WEIGHTS = 'adapter_model.safetensors'
const CONFIG = 'adapter_config.json'

/** Whether `path` is a folder with an adapter in it. */
export async function isPeftFolder(path: string): Promise<boolean> {
  const found = await stat(join(path, CONFIG)).catch(() => null) // absent: then it is no adapter folder
  return found?.isFile() ?? false
}

async function readConfig(dir: string): Promise<Record<string, unknown>> {
  const path = join(dir, CONFIG)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    throw new NodeError(
      'FILE_NOT_FOUND',
      `cannot read ${path}: a PEFT adapter folder has ${WEIGHTS} and ${CONFIG}`,
      { cause },
    )
  }
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
    throw new Error('it is no JSON object')
  } catch (cause) {
    throw new NodeError('BAD_ADAPTER', `${path}: ${messageOf(cause)}`, { cause })
  }
}

/** The layers that names of LoRA matrices belong to. Throws NodeError BAD_ADAPTER for one this version does not know. */
function targetsOf(names: readonly string[]): LoraTarget[] {
  const found = new Set<LoraTarget>()
  for (const name of names) {
    const layer = /\.([a-z_0-9]+)\.lora_[AB]\.weight$/.exec(name)?.[1]
    const target = layer === undefined ? undefined : loraTargetOf(layer)
    if (target === undefined) {
      throw new NodeError('BAD_ADAPTER', `tensor ${name} is no LoRA matrix of ${LORA_TARGETS.join(', ')}`)
    }
    found.add(target)
  }
  return LORA_TARGETS.filter((target) => found.has(target))
}

async function layoutOf(dir: string): Promise<AdapterLayout> {
  const { tensors } = await readSafetensorsHeader(join(dir, WEIGHTS))
  let length = 0
  const sorted = [...tensors].map(([name, { shape }]) => ({ name, shape })).sort(byName)
  const placed = sorted.map(({ name, shape }) => {
    const [rows = 0, columns = 0] = shape
    if (shape.length !== 2) {
      throw new NodeError('BAD_ADAPTER', `${dir}: ${name} has shape [${shape.join(', ')}], expected a matrix`)
    }
    const tensor = { name, shape: [rows, columns] as const, offset: length }
    length += rows * columns
    return tensor
  })
  return { tensors: placed, length }
}

/** An adapter and the model it was made for, as the folder names it. */
export interface PeftAdapter extends Adapter {
  readonly lora: DeltaLora
  readonly baseModel: string
}

/** Reads a folder. Throws NodeError FILE_NOT_FOUND or BAD_ADAPTER, or GspoError BAD_SAFETENSORS or BAD_ADAPTER. */
export async function readPeftFolder(dir: string): Promise<PeftAdapter> {
  const config = await readConfig(dir)
  const { r, lora_alpha: alpha, use_rslora: rslora = false, base_model_name_or_path: baseModel } = config
  if (
    !Number.isInteger(r) ||
    typeof r !== 'number' ||
    typeof alpha !== 'number' ||
    typeof rslora !== 'boolean'
  ) {
    throw new NodeError(
      'BAD_ADAPTER',
      `${dir}/${CONFIG}: r, lora_alpha or use_rslora is missing or no number`,
    )
  }
  const layout = await layoutOf(dir)
  const targets = targetsOf(layout.tensors.map(({ name }) => name))
  const lora: LoraConfig = { rank: r, alpha, useRslora: rslora, targets }
  const flat = await readAdapterFolder(dir, { layout, lora })
  const matrices = layout.tensors.map(({ name, shape, offset }) => {
    if (shape[name.endsWith('.lora_A.weight') ? 0 : 1] !== r) {
      throw new NodeError(
        'BAD_ADAPTER',
        `${dir}: ${name} has shape [${shape.join(', ')}], which is not of rank ${r}`,
      )
    }
    return { name, shape: [...shape], values: flat.slice(offset, offset + shape[0] * shape[1]) }
  })
  return {
    matrices,
    lora: { rank: r, alpha, use_rslora: rslora, target_modules: targets },
    baseModel: typeof baseModel === 'string' ? baseModel : '',
  }
}

/** Writes a folder that transformers and vLLM load. Throws NodeError BAD_ADAPTER when the LoRA settings are unknown. */
export async function writePeftFolder(dir: string, adapter: Adapter, baseModel: string): Promise<void> {
  const { lora, matrices } = adapter
  if (lora === null) {
    throw new NodeError(
      'BAD_ADAPTER',
      'neither the delta nor the base says rank and alpha, which a PEFT folder needs',
    )
  }
  let offset = 0
  const tensors = matrices.map(({ name, shape, values }) => {
    const [rows = 0, columns = 0] = shape
    const tensor = { name, shape: [rows, columns] as const, offset }
    offset += values.length
    return tensor
  })
  const targets = targetsOf(matrices.map(({ name }) => name))
  await writeAdapterFolder(dir, flatten(adapter), {
    layout: { tensors, length: offset },
    lora: { rank: lora.rank, alpha: lora.alpha, useRslora: lora.use_rslora, targets },
    baseModel,
  })
}
