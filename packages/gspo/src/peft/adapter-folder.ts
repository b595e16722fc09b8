/**
 * PEFT adapter folders (`adapter_model.safetensors`, `adapter_config.json`), both ways. A folder that does not fit the
 * model and LoRA settings is refused with the difference named.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GspoError } from '../errors.ts'
import { loraScale, targetModules, type AdapterLayout, type LoraConfig } from '../lora.ts'
import { openSafetensors, safetensorsChunks } from '../weights/safetensors.ts'
import type { SafetensorsHeader } from '../weights/safetensors.ts'
import { replaceFiles } from './replace-files.ts'

const WEIGHTS = 'adapter_model.safetensors'
const CONFIG = 'adapter_config.json'

/** PEFT's ways to start an adapter that take something out of the base weights (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ). */
const CHANGES_BASE = /^(pissa|olora|corda|lora_ga|loftq)/i

/** Keys of a PEFT config that, when set, make the same matrices mean something else. */
const REFUSED_KEYS = [
  'rank_pattern',
  'alpha_pattern',
  'modules_to_save',
  'layers_to_transform',
  'layer_replication',
  'alora_invocation_tokens',
  'lora_bias',
  'use_qalora',
] as const

/** What an adapter is made for. */
export interface AdapterDescription {
  readonly layout: AdapterLayout
  readonly lora: LoraConfig
  /** Written as base_model_name_or_path: a folder or a name on the Hub. */
  readonly baseModel: string
}

/** A whole adapter in the layout's order, or how to get one matrix of it. */
export type AdapterValues = Float32Array | ((tensor: number) => Promise<Float32Array>)

/**
 * Writes the folder; both files appear whole or not at all, one matrix in memory at a time where `values` is a
 * function. Throws GspoError BAD_ADAPTER, or FILE_UNWRITABLE (no space, no rights, no such place): then nothing is left.
 */
export async function writeAdapterFolder(
  dir: string,
  values: AdapterValues,
  description: AdapterDescription,
): Promise<void> {
  const { layout } = description
  if (values instanceof Float32Array) checkLength(values, layout)
  const tensors = layout.tensors.map(({ name, shape, offset }, at) => ({
    name,
    shape,
    values: () =>
      values instanceof Float32Array ? values.subarray(offset, offset + shape[0] * shape[1]) : values(at),
  }))
  await replaceFiles(dir, [
    [WEIGHTS, safetensorsChunks(tensors, { format: 'pt' })],
    [CONFIG, `${JSON.stringify(peftConfig(description), null, 2)}\n`],
  ])
}

/** An open adapter folder that fits its description. */
export interface AdapterFolder {
  /** One matrix of the layout, by its place there: finite numbers. Throws GspoError BAD_ADAPTER or BAD_SAFETENSORS. */
  values(tensor: number): Promise<Float32Array>
  close(): Promise<void>
}

/**
 * Opens a folder whose settings, names and shapes are those described; matrices are read when they are asked for.
 * Throws GspoError FILE_MISSING, BAD_SAFETENSORS or BAD_ADAPTER.
 */
export async function openAdapterFolder(
  dir: string,
  { layout, lora }: Omit<AdapterDescription, 'baseModel'>,
): Promise<AdapterFolder> {
  checkConfig(await readConfig(dir), dir, lora)
  const path = join(dir, WEIGHTS)
  const file = await openSafetensors(path)
  try {
    checkTensors(file.header.tensors, path, layout)
  } catch (error) {
    await file.close()
    throw error
  }
  return {
    async values(at) {
      const name = layout.tensors[at]?.name ?? ''
      const { values } = await file.read(name)
      if (!(values instanceof Float32Array))
        throw new GspoError('BAD_ADAPTER', `${path}: ${name} holds integers, expected floating-point numbers`)
      const bad = values.findIndex((value) => !Number.isFinite(value))
      if (bad >= 0)
        throw new GspoError(
          'BAD_ADAPTER',
          `${path}: ${name} holds ${values[bad]} at element ${bad}, expected finite numbers: it was saved from a run that had diverged`,
        )
      return values
    },
    close: () => file.close(),
  }
}

/** The adapter in a folder as one flat vector. Throws GspoError FILE_MISSING, BAD_SAFETENSORS or BAD_ADAPTER. */
export async function readAdapterFolder(
  dir: string,
  description: Omit<AdapterDescription, 'baseModel'>,
): Promise<Float32Array> {
  const { layout } = description
  const folder = await openAdapterFolder(dir, description)
  try {
    const values = new Float32Array(layout.length)
    for (const [at, { offset }] of layout.tensors.entries()) values.set(await folder.values(at), offset)
    return values
  } finally {
    await folder.close()
  }
}

/** Names and shapes are the layout's. */
function checkTensors(tensors: SafetensorsHeader['tensors'], path: string, layout: AdapterLayout): void {
  const known = new Set(layout.tensors.map(({ name }) => name))
  const extra = [...tensors.keys()].find((name) => !known.has(name))
  if (extra !== undefined)
    throw new GspoError(
      'BAD_ADAPTER',
      `${path} has tensor ${extra}, which this model with these lora_targets does not have`,
    )
  for (const { name, shape } of layout.tensors) {
    const tensor = tensors.get(name)
    if (tensor === undefined)
      throw new GspoError(
        'BAD_ADAPTER',
        `${path} lacks tensor ${name}: lora_targets and model must be those it was trained with`,
      )
    if (tensor.shape.length !== 2 || tensor.shape[0] !== shape[0] || tensor.shape[1] !== shape[1])
      throw new GspoError(
        'BAD_ADAPTER',
        `${path}: ${name} has shape [${tensor.shape.join(', ')}], expected [${shape.join(', ')}]`,
      )
  }
}

function peftConfig({ layout, lora, baseModel }: AdapterDescription): Record<string, unknown> {
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: baseModel,
    r: lora.rank,
    ...writtenScale(layout, lora),
    target_modules: targetModules(layout),
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    init_lora_weights: true,
    inference_mode: true,
    modules_to_save: null,
  }
}

/**
 * The same factor in front of B A without use_rslora where experts have adapters: transformers 5 holds experts fused, and
 * PEFT 0.21 joins their gate and up adapters to one of twice the rank and alpha, of which use_rslora takes a wrong root.
 */
function writtenScale({ tensors }: AdapterLayout, lora: LoraConfig): Record<string, unknown> {
  const { rank, alpha, useRslora } = lora
  const isFused = tensors.some(({ name }) => name.includes('.experts.'))
  if (!useRslora || !isFused) return { lora_alpha: alpha, use_rslora: useRslora }
  return { lora_alpha: loraScale(lora) * rank, use_rslora: false }
}

/** Share by which a scale may differ after its rounding. */
const SCALE_ROUNDING = 1e-9

/** Whether lora_alpha and use_rslora, however they say it, make the factor that is expected. */
function isSameScale(seen: Readonly<Record<string, unknown>>, lora: LoraConfig): boolean {
  const { r: rank, lora_alpha: alpha, use_rslora: useRslora = false } = seen
  if (rank !== lora.rank || typeof alpha !== 'number' || typeof useRslora !== 'boolean') return false
  const [found, wanted] = [loraScale({ ...lora, alpha, useRslora }), loraScale(lora)]
  return Math.abs(found - wanted) <= SCALE_ROUNDING * Math.abs(wanted)
}

/** Everything in a PEFT config that would make the same matrices mean something else. */
function checkConfig(bytes: Uint8Array, dir: string, lora: LoraConfig): void {
  const path = join(dir, CONFIG)
  let config: unknown
  try {
    config = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch (cause) {
    throw new GspoError('BAD_ADAPTER', `${path} is not valid JSON`, { cause })
  }
  if (typeof config !== 'object' || config === null)
    throw new GspoError('BAD_ADAPTER', `${path} is not a JSON object`)
  const seen = config as Record<string, unknown>
  const scale: readonly [string, unknown, string][] = [
    ['lora_alpha', lora.alpha, 'set lora_alpha'],
    ['use_rslora', lora.useRslora, 'set use_rslora'],
  ]
  const expected: readonly [string, unknown, string][] = [
    ['peft_type', 'LORA', 'only LoRA adapters are known'],
    ['r', lora.rank, 'set lora_rank'],
    ...(isSameScale(seen, lora) ? [] : scale),
    ['use_dora', false, 'DoRA is not supported'],
    ['bias', 'none', 'trained biases are not supported'],
    ['fan_in_fan_out', false, 'transposed weights are not supported'],
  ]
  for (const [key, value, advice] of expected) {
    const found = seen[key] ?? defaultOf(key)
    if (found !== value)
      throw new GspoError(
        'BAD_ADAPTER',
        `${path}: ${key} is ${JSON.stringify(found)}, expected ${JSON.stringify(value)}: ${advice}`,
      )
  }
  const start = seen['init_lora_weights']
  if (typeof start === 'string' && CHANGES_BASE.test(start))
    throw new GspoError(
      'BAD_ADAPTER',
      `${path}: init_lora_weights is ${JSON.stringify(start)}, whose adapters belong to changed base weights: convert it to a plain LoRA (PEFT's save_pretrained with path_initial_model_for_weight_conversion)`,
    )
  for (const key of REFUSED_KEYS) {
    const found = seen[key]
    if (found === undefined || found === null || found === false || isEmpty(found)) continue
    throw new GspoError(
      'BAD_ADAPTER',
      `${path}: ${key} is ${JSON.stringify(found).slice(0, 200)}, which is not supported: one rank and alpha for whole layers is expected, and nothing else trained`,
    )
  }
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}

/** PEFT's value of a key that old adapter files leave out. */
function defaultOf(key: string): unknown {
  if (key === 'bias') return 'none'
  return key.startsWith('use_') || key === 'fan_in_fan_out' ? false : undefined
}

function checkLength(values: Float32Array, layout: AdapterLayout): void {
  if (values.length !== layout.length)
    throw new GspoError(
      'BAD_ADAPTER',
      `the adapter has ${values.length} elements, its layout ${layout.length}`,
    )
}

async function readConfig(dir: string): Promise<Uint8Array> {
  const path = join(dir, CONFIG)
  try {
    return await readFile(path)
  } catch (cause) {
    throw new GspoError(
      'FILE_MISSING',
      `cannot read ${path}: a PEFT adapter folder has ${WEIGHTS} and ${CONFIG}`,
      { cause },
    )
  }
}
