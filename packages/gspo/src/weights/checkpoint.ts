/** The weights of a model folder: one safetensors file, or several with an index. Reads headers only. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, realpath, stat } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { GspoError } from '../errors.ts'
import type { WeightSource } from '../graph/ops.ts'
import { readSafetensorsHeader } from './safetensors.ts'

/** Looked up or added as it is, multiplied with, or multiplied with as the head of a decoding step. */
export type WeightUse = 'values' | 'matrix' | 'decode-head'

/** All tensors of a checkpoint, and the files they lie in. */
export interface Checkpoint {
  /** Absolute paths without symbolic links, in the order of their names. */
  readonly files: readonly string[]
  /** Whether there is a tensor of this name. */
  has(name: string): boolean
  /**
   * The tensor of this name; `use` says what for, since a matrix may have been prepared for multiplication.
   * Throws TENSOR_MISSING, TENSOR_SHAPE or BAD_SAFETENSORS (a type it cannot use).
   */
  get(name: string, shape: readonly number[], use?: WeightUse): WeightSource
  /** Number of elements of all tensors. */
  readonly parameters: number
}

const SINGLE_FILE = 'model.safetensors'
const INDEX_FILE = 'model.safetensors.index.json'

/** Finds and checks the weight files of a folder; throws FILE_MISSING or BAD_SAFETENSORS. */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  const names = await weightFiles(folder)
  const files: string[] = []
  const sources = new Map<string, { source: Omit<WeightSource, 'stored'>; dtype: string }>()
  for (const name of names) {
    const file = await resolve(path.join(folder, name))
    files.push(file)
    const { tensors } = await readSafetensorsHeader(file)
    for (const [tensor, { dtype, shape, offset, byteLength }] of tensors)
      sources.set(tensor, { source: { name: tensor, file, offset, byteLength, shape }, dtype })
  }
  let parameters = 0
  for (const { source } of sources.values())
    parameters += source.shape.reduce((product, size) => product * size, 1)
  return {
    files,
    parameters,
    has: (name) => sources.has(name),
    get: (name, shape) => {
      const found = sources.get(name)
      if (found === undefined)
        throw new GspoError('TENSOR_MISSING', `${folder} has no tensor ${name}; config.json asks for it`)
      const { source, dtype } = found
      if (source.shape.join() !== shape.join())
        throw new GspoError(
          'TENSOR_SHAPE',
          `tensor ${name} is [${source.shape.join(', ')}], config.json asks for [${shape.join(', ')}]`,
        )
      if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16')
        throw new GspoError('BAD_SAFETENSORS', `tensor ${name} is ${dtype}; weights must be F32, F16 or BF16`)
      return { ...source, stored: dtype }
    },
  }
}

/** SHA-256, in hex, over the bytes of the files one after the other. */
export async function hashFiles(files: readonly string[]): Promise<string> {
  const hash = createHash('sha256')
  for (const file of files)
    await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash, { end: false })
  return hash.digest('hex')
}

async function weightFiles(folder: string): Promise<string[]> {
  const text = await readFile(path.join(folder, INDEX_FILE), 'utf8').catch(() => undefined)
  if (text === undefined) {
    const single = await stat(path.join(folder, SINGLE_FILE)).catch(() => undefined)
    if (single === undefined)
      throw new GspoError(
        'FILE_MISSING',
        `${folder} has neither ${SINGLE_FILE} nor ${INDEX_FILE}; give the folder of a Hugging Face model`,
      )
    return [SINGLE_FILE]
  }
  let index: unknown
  try {
    index = JSON.parse(text)
  } catch (cause) {
    throw new GspoError('BAD_SAFETENSORS', `${path.join(folder, INDEX_FILE)} is no JSON`, { cause })
  }
  const map =
    typeof index === 'object' && index !== null && 'weight_map' in index ? index.weight_map : undefined
  if (typeof map !== 'object' || map === null)
    throw new GspoError('BAD_SAFETENSORS', `${path.join(folder, INDEX_FILE)} has no weight_map`)
  const names = new Set(Object.values(map).map(String))
  for (const name of names)
    if (path.basename(name) !== name)
      throw new GspoError(
        'BAD_SAFETENSORS',
        `${INDEX_FILE} names ${name}; files must lie in the model's folder`,
      )
  return [...names].sort()
}

async function resolve(file: string): Promise<string> {
  return realpath(file).catch((cause: unknown) => {
    throw new GspoError('FILE_MISSING', `${file} is missing; download the model again`, { cause })
  })
}
