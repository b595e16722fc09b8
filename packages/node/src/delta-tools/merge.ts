/**
 * Merges a LoRA adapter into a model's weights (`delta merge`): W' = W + s B A with s = alpha / r (or alpha / sqrt r),
 * summed in double precision and rounded once to the type the model stores. Files are streamed tensor by tensor; what
 * has no LoRA is copied as it is, so names, shards and index stay the model's own.
 */

import { copyFile, mkdir, open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { loraScale, readSafetensorsHeader, type SafetensorsHeader, type TensorEntry } from '@gym-node/gspo'
import { NodeError } from '../errors.ts'
import type { MatrixRecord } from './adapter.ts'
import { MAX_SIDE_FILE_BYTES, MERGE_COPY_BYTES } from './defaults.ts'
import { refuseExisting } from './delta-file.ts'
import { openPeftFolder, type PeftSource } from './peft-folder.ts'
import { addToStored, type StoredFloat } from './stored-floats.ts'

/** What `mergeAdapter` did. */
export interface Merged {
  readonly out: string
  /** Tensors that the adapter changed. */
  readonly merged: number
  readonly bytes: number
}

/** A matrix of the adapter: what is known of it, and its place there. */
interface PairHalf extends MatrixRecord {
  readonly at: number
}

interface LoraPair {
  readonly a: PairHalf
  readonly b: PairHalf
}

/** The A and B of every layer, by the name of the weight they change. Throws NodeError BAD_ADAPTER when one is alone. */
function pairsOf({ matrices }: PeftSource): Map<string, LoraPair> {
  const halves = new Map(matrices.map(({ name, shape }, at) => [name, { name, shape, at }]))
  const pairs = new Map<string, LoraPair>()
  for (const a of halves.values()) {
    if (!a.name.endsWith('.lora_A.weight')) continue
    const module = a.name.slice('base_model.model.'.length, -'.lora_A.weight'.length)
    const b = halves.get(a.name.replace(/\.lora_A\.weight$/, '.lora_B.weight'))
    if (b === undefined)
      throw new NodeError('BAD_ADAPTER', `the adapter has ${a.name} but no lora_B beside it`)
    pairs.set(`${module}.weight`, { a, b })
  }
  if (pairs.size * 2 !== matrices.length) {
    throw new NodeError(
      'BAD_ADAPTER',
      `the adapter has ${matrices.length} matrices, but only ${pairs.size} pairs`,
    )
  }
  return pairs
}

/** s B A for one layer, row-major [out, in], in double precision. */
async function loraProduct(adapter: PeftSource, { a, b }: LoraPair, scale: number): Promise<Float64Array> {
  const [rank = 0, columns = 0] = a.shape
  const [rows = 0] = b.shape
  const [left, right] = [await adapter.values(b.at), await adapter.values(a.at)]
  const product = new Float64Array(rows * columns)
  for (let row = 0; row < rows; row += 1) {
    const target = product.subarray(row * columns, (row + 1) * columns)
    for (let k = 0; k < rank; k += 1) {
      const factor = scale * (left[row * rank + k] ?? 0)
      if (factor === 0) continue
      const from = k * columns
      for (let column = 0; column < columns; column += 1) {
        target[column] = (target[column] ?? 0) + factor * (right[from + column] ?? 0)
      }
    }
  }
  return product
}

function storedType({ dtype }: TensorEntry, name: string): StoredFloat {
  if (dtype === 'F32' || dtype === 'F16' || dtype === 'BF16') return dtype
  throw new NodeError(
    'BAD_ADAPTER',
    `${name} is stored as ${dtype}; only F32, F16 and BF16 weights can take a merge`,
  )
}

function checkShape(entry: TensorEntry, { a, b }: LoraPair, name: string): void {
  const wanted = [b.shape[0], a.shape[1]]
  if (entry.shape.join() !== wanted.join()) {
    throw new NodeError(
      'BAD_ADAPTER',
      `${name} is [${entry.shape.join(', ')}] in the model, the adapter is for [${wanted.join(', ')}]`,
    )
  }
}

async function readExactly(file: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const bytes = Buffer.alloc(length)
  let done = 0
  while (done < length) {
    const { bytesRead } = await file.read(bytes, done, length - done, position + done)
    if (bytesRead === 0)
      throw new NodeError('BAD_ADAPTER', `a model file ends at byte ${position + done}, expected more`)
    done += bytesRead
  }
  return bytes
}

/** Copies one shard, merging the tensors that have a pair. Returns how many. */
async function mergeShard(
  source: string,
  target: string,
  header: SafetensorsHeader,
  productOf: (name: string) => Promise<Float64Array> | null,
): Promise<number> {
  const from = await open(source)
  try {
    const to = await open(target, 'wx', 0o644)
    try {
      const { size } = await from.stat()
      let position = 0
      const copyTo = async (end: number): Promise<void> => {
        while (position < end) {
          const bytes = await readExactly(from, position, Math.min(MERGE_COPY_BYTES, end - position))
          await to.writeFile(bytes)
          position += bytes.length
        }
      }
      let merged = 0
      const entries = [...header.tensors].sort(([, left], [, right]) => left.offset - right.offset)
      for (const [name, entry] of entries) {
        const product = await productOf(name)
        if (product === null) continue
        await copyTo(entry.offset)
        const stored = await readExactly(from, entry.offset, entry.byteLength)
        await to.writeFile(addToStored(stored, storedType(entry, name), product, name))
        position = entry.offset + entry.byteLength
        merged += 1
      }
      await copyTo(size)
      await to.sync()
      return merged
    } finally {
      await to.close()
    }
  } finally {
    await from.close()
  }
}

/** Copies configuration, tokenizer and index; other formats' weights are left behind: they would be unmerged. */
async function copySideFiles(model: string, out: string): Promise<void> {
  for (const entry of await readdir(model)) {
    if (/\.(safetensors|bin|pt|pth|gguf|onnx|h5|msgpack)$/.test(entry)) continue
    const found = await stat(join(model, entry))
    if (found.isFile() && found.size <= MAX_SIDE_FILE_BYTES)
      await copyFile(join(model, entry), join(out, entry))
  }
}

/** The safetensors files of a model folder. Throws NodeError FILE_NOT_FOUND when there is none. */
async function shardsOf(model: string): Promise<string[]> {
  const names = await readdir(model).catch((cause: unknown) => {
    throw new NodeError('FILE_NOT_FOUND', `there is no model folder ${model}`, { cause })
  })
  const shards = names.filter((name) => name.endsWith('.safetensors')).sort()
  if (shards.length === 0) throw new NodeError('FILE_NOT_FOUND', `${model} holds no safetensors weights`)
  return shards
}

/** What `mergeAdapter` is asked. */
export interface MergeOptions {
  /** Hugging Face folder with safetensors weights. */
  readonly model: string
  /** PEFT folder. */
  readonly adapter: string
  /** Folder to write; must not exist. It appears whole or not at all. */
  readonly out: string
}

/** Merges. Throws NodeError OUTPUT_EXISTS, FILE_NOT_FOUND or BAD_ADAPTER (a layer that the model lacks, another shape or type). */
export async function mergeAdapter({ model, adapter, out }: MergeOptions): Promise<Merged> {
  await refuseExisting(out)
  await using closing = new AsyncDisposableStack()
  const peft = await openPeftFolder(adapter)
  closing.defer(() => peft.close())
  const { rank, alpha, use_rslora: useRslora } = peft.lora
  const scale = loraScale({ rank, alpha, useRslora, targets: [] })
  const pairs = pairsOf(peft)
  const shards = await shardsOf(model)
  const headers = new Map<string, SafetensorsHeader>()
  const missing = new Set(pairs.keys())
  for (const shard of shards) {
    const header = await readSafetensorsHeader(join(model, shard))
    headers.set(shard, header)
    for (const [name, entry] of header.tensors) {
      const pair = pairs.get(name)
      if (pair === undefined) continue
      checkShape(entry, pair, name)
      storedType(entry, name)
      missing.delete(name)
    }
  }
  const [first] = missing
  if (first !== undefined) {
    throw new NodeError(
      'BAD_ADAPTER',
      `${model} has no tensor ${first}, which the adapter changes (${missing.size} are missing)`,
    )
  }
  const unfinished = `${out}.unfinished`
  await rm(unfinished, { recursive: true, force: true })
  await mkdir(unfinished, { recursive: true })
  try {
    await copySideFiles(model, unfinished)
    let merged = 0
    let bytes = 0
    const productOf = (name: string): Promise<Float64Array> | null => {
      const pair = pairs.get(name)
      return pair === undefined ? null : loraProduct(peft, pair, scale)
    }
    for (const [shard, header] of headers) {
      merged += await mergeShard(join(model, shard), join(unfinished, shard), header, productOf)
      bytes += (await stat(join(unfinished, shard))).size
    }
    await rename(unfinished, out)
    return { out, merged, bytes }
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true })
    throw error
  }
}
