/** PEFT adapter folders of any LoRA, described by themselves: reading needs no model. gspo does the checking. */

import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import {
  LORA_TARGETS,
  loraTargetOf,
  openAdapterFolder,
  readSafetensorsHeader,
  writeAdapterFolder,
} from '@gym-node/gspo'
import type { AdapterLayout, LoraConfig, LoraTarget } from '@gym-node/gspo'
import type { DeltaLora } from '@gym-node/wire'
import { messageOf, NodeError } from '../errors.ts'
import { byName, type Adapter } from './adapter.ts'
import { elementsOfMatrix, readWhole, type AdapterSource } from './adapter-source.ts'

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

/** An open adapter and the model it was made for, as the folder names it. */
export interface PeftSource extends AdapterSource {
  readonly lora: DeltaLora
  readonly baseModel: string
}

/** An adapter in memory and the model it was made for. */
export interface PeftAdapter extends Adapter {
  readonly lora: DeltaLora
  readonly baseModel: string
}

/**
 * Opens a folder; its settings, names and shapes are checked, numbers when they are read. Throws NodeError
 * FILE_NOT_FOUND or BAD_ADAPTER, or GspoError BAD_SAFETENSORS or BAD_ADAPTER.
 */
export async function openPeftFolder(dir: string): Promise<PeftSource> {
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
  const wrong = layout.tensors.find(({ name, shape }) => shape[name.endsWith('.lora_A.weight') ? 0 : 1] !== r)
  if (wrong !== undefined) {
    throw new NodeError(
      'BAD_ADAPTER',
      `${dir}: ${wrong.name} has shape [${wrong.shape.join(', ')}], which is not of rank ${r}`,
    )
  }
  const folder = await openAdapterFolder(dir, { layout, lora })
  return {
    matrices: layout.tensors.map(({ name, shape }) => ({ name, shape: [...shape] })),
    values: (at) => folder.values(at),
    close: () => folder.close(),
    lora: { rank: r, alpha, use_rslora: rslora, target_modules: targets },
    baseModel: typeof baseModel === 'string' ? baseModel : '',
  }
}

/** Reads a whole folder; throws as `openPeftFolder` and for numbers that are not finite. */
export async function readPeftFolder(dir: string): Promise<PeftAdapter> {
  const source = await openPeftFolder(dir)
  try {
    const { matrices } = await readWhole(source)
    return { matrices, lora: source.lora, baseModel: source.baseModel }
  } finally {
    await source.close()
  }
}

/**
 * Writes a folder that transformers and vLLM load, one matrix in memory at a time; `values` is asked for each once, in
 * order. Throws NodeError BAD_ADAPTER when the LoRA settings are unknown, GspoError FILE_UNWRITABLE.
 */
export async function writePeftFolder(
  dir: string,
  { lora, matrices, values }: Omit<AdapterSource, 'close'>,
  baseModel: string,
): Promise<void> {
  if (lora === null) {
    throw new NodeError(
      'BAD_ADAPTER',
      'neither the delta nor the base says rank and alpha, which a PEFT folder needs',
    )
  }
  let offset = 0
  const tensors = matrices.map((matrix) => {
    const [rows = 0, columns = 0] = matrix.shape
    const tensor = { name: matrix.name, shape: [rows, columns] as const, offset }
    offset += elementsOfMatrix(matrix)
    return tensor
  })
  const targets = targetsOf(matrices.map(({ name }) => name))
  await writeAdapterFolder(dir, (at) => values(at), {
    layout: { tensors, length: offset },
    lora: { rank: lora.rank, alpha: lora.alpha, useRslora: lora.use_rslora, targets },
    baseModel,
  })
}
