/**
 * Rewrites frozen matrices once into a file that all sessions map: 16-bit floats as float32, and in 4-bit mode the
 * linear layers as blockwise codes. What is float32 already stays where it is.
 */
import { createHash } from 'node:crypto'
import { mkdtemp, open, rm, type FileHandle } from 'node:fs/promises'
import { realpathSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { QUANT_BLOCKS } from '../defaults.ts'
import { GspoError } from '../errors.ts'
import type { WeightSource } from '../graph/ops.ts'
import type { Checkpoint } from './checkpoint.ts'
import { quantiseBytes, quantiseRows } from './quantise.ts'
import { decodeBf16 } from './safetensors.ts'
import { cachedWeights, weightCacheFolder, type PreparedIndex } from './weight-cache.ts'

/** A checkpoint whose matrices are ready. */
export interface PreparedCheckpoint extends Checkpoint {
  /** Gives the prepared file back; the sessions that map it must be closed first. */
  dispose(): Promise<void>
}

/** Matrices by use: linear layers of the decoder, and the head. */
export interface MatrixUses {
  readonly linears: readonly WeightSource[]
  readonly head: WeightSource
}

/** Alignment of every part of the file, bytes: a cache line, and more than any element type needs. */
const ALIGNMENT = 64

/** Changes with what the bytes of a prepared file mean. */
const FORMAT_VERSION = 2

/** Errors that mean that a folder cannot be written at all. */
const UNWRITABLE = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOENT', 'ENOTDIR'])

/** Elements converted at once: 16 MB of float32. */
const CHUNK_ELEMENTS = 1 << 22

/** What to prepare for. */
export interface PrepareOptions {
  readonly use4bit: boolean
  /** In 4 bits: train with the head's 8-bit codes too, instead of its floats. */
  readonly use8bitHead?: boolean
  /** Numbers that share a scale in 4 bits, at most. */
  readonly block: number
  /** The engine reads 16-bit floats as they lie in their files. */
  readonly canWiden?: boolean
  /** Names the weights: the same text stands for the same bytes. */
  readonly modelSha256: string
  /** See `weightCacheFolder`. */
  readonly cacheFolder?: string
}

/**
 * Prepares a checkpoint; without anything to do no file is written. The file is kept in the cache folder for the next
 * run, or where that cannot be written in a private folder until `dispose`.
 */
export async function prepareCheckpoint(
  checkpoint: Checkpoint,
  uses: MatrixUses,
  options: PrepareOptions,
): Promise<PreparedCheckpoint> {
  const matrices = [...uses.linears, uses.head]
  const canWiden = options.canWiden === true
  if (!options.use4bit && (canWiden || matrices.every(({ stored }) => stored === 'F32')))
    return { ...checkpoint, dispose: () => Promise.resolve() }
  const make = (file: string): Promise<PreparedIndex> => writePrepared(file, uses, options)
  const prepared = await cachedWeights(
    options.cacheFolder ?? weightCacheFolder(),
    formatKey(matrices, options),
    make,
  ).catch((error: unknown) => privateWeights(error, make))
  const { file, index } = prepared
  const placed = (original: WeightSource, place: PreparedIndex['decodeHead']): WeightSource | undefined =>
    place === undefined ? undefined : { ...original, file, ...place }
  return {
    ...checkpoint,
    get: (name, shape, use = 'values') => {
      const original = checkpoint.get(name, shape)
      if (use === 'values') return original
      const decodeHead = use === 'decode-head' ? placed(original, index.decodeHead) : undefined
      return decodeHead ?? placed(original, index.matrices[name]) ?? original
    },
    dispose: async () => prepared.release(),
  }
}

/** What the bytes of a prepared file depend on, as a name for it. */
function formatKey(
  matrices: readonly WeightSource[],
  { use4bit, use8bitHead = false, block, canWiden = false, modelSha256 }: PrepareOptions,
): string {
  const names = matrices.map(({ name }) => name)
  const format = { version: FORMAT_VERSION, modelSha256, use4bit, use8bitHead, block, canWiden, names }
  return createHash('sha256').update(JSON.stringify(format)).digest('hex')
}

/** The file in a folder of this process's own, where the cache cannot be written; any other failure goes on. */
async function privateWeights(
  error: unknown,
  make: (file: string) => Promise<PreparedIndex>,
): Promise<{ file: string; index: PreparedIndex; release: () => Promise<void> }> {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (!UNWRITABLE.has(String(code))) throw error
  const folder = realpathSync(await mkdtemp(path.join(tmpdir(), 'gym-weights-')))
  const release = (): Promise<void> => rm(folder, { recursive: true, force: true })
  try {
    const file = path.join(folder, 'weights.bin')
    return { file, index: await make(file), release }
  } catch (failure) {
    await release()
    throw failure
  }
}

async function writePrepared(
  file: string,
  uses: MatrixUses,
  { use4bit, use8bitHead = false, block: wanted, canWiden = false }: PrepareOptions,
): Promise<PreparedIndex> {
  const handle = await open(file, 'w', 0o600)
  try {
    const writer = new PreparedFile(handle)
    const matrices: PreparedIndex['matrices'] = {}
    const widen = async (source: WeightSource): Promise<void> => {
      if (source.stored !== 'F32' && !canWiden) matrices[source.name] = await writer.widened(source)
    }
    for (const source of uses.linears) {
      const block = use4bit ? blockOf(source, wanted) : undefined
      if (block === undefined) await widen(source)
      else matrices[source.name] = await writer.quantised(source, block)
    }
    const headBlock = use4bit ? blockOf(uses.head, wanted) : undefined
    if (headBlock === undefined || !use8bitHead) await widen(uses.head)
    if (headBlock === undefined) return { matrices }
    const decodeHead = await writer.bytes(uses.head, headBlock)
    if (use8bitHead) matrices[uses.head.name] = decodeHead
    return { matrices, decodeHead }
  } finally {
    await handle.close()
  }
}

/** The largest block, up to the wanted one, that rows are whole multiples of; undefined for none. */
function blockOf({ shape }: WeightSource, wanted: number): number | undefined {
  const [, columns = 0] = shape
  return QUANT_BLOCKS.findLast((block) => block <= wanted && shape.length === 2 && columns % block === 0)
}

type Place = NonNullable<PreparedIndex['decodeHead']>

/** Appends tensors to the file. */
class PreparedFile {
  private readonly handle: FileHandle
  private end = 0

  constructor(handle: FileHandle) {
    this.handle = handle
  }

  async widened(source: WeightSource): Promise<Place> {
    const offset = this.align()
    for await (const values of readFloats(source)) await this.append(values)
    return { stored: 'F32', offset, byteLength: this.end - offset }
  }

  /** 4-bit codes, their scales, and a code of zero for each block: DequantizeLinear wants it spelled out. */
  async quantised(source: WeightSource, block: number): Promise<Place> {
    const { scales, ...place } = await this.codes(source, block, quantiseRows)
    const scalesOffset = this.align()
    await this.append(scales)
    const zerosOffset = this.align()
    await this.append(new Uint8Array(Math.ceil(scales.length / 2)).fill(0x88))
    return { stored: 'U4', ...place, scales: { block, offset: scalesOffset, zerosOffset } }
  }

  /** 8-bit codes, their scales and codes of zero, as of 4 bits. */
  async bytes(source: WeightSource, block: number): Promise<Place> {
    const { scales, ...place } = await this.codes(source, block, quantiseBytes)
    const scalesOffset = this.align()
    await this.append(scales)
    const zerosOffset = this.align()
    await this.append(new Uint8Array(scales.length).fill(0x80))
    return { stored: 'U8', ...place, scales: { block, offset: scalesOffset, zerosOffset } }
  }

  private async codes(
    source: WeightSource,
    block: number,
    quantise: typeof quantiseRows,
  ): Promise<{ offset: number; byteLength: number; scales: Float32Array }> {
    const scales = new Float32Array(source.shape.reduce((product, size) => product * size, 1) / block)
    const offset = this.align()
    let done = 0
    for await (const values of readFloats(source, block)) {
      checkFinite(source, values)
      const part = quantise(values, block)
      scales.set(part.scales, done)
      done += part.scales.length
      await this.append(part.codes)
    }
    return { offset, byteLength: this.end - offset, scales }
  }

  private async append(values: Float32Array | Uint8Array | Int8Array): Promise<void> {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    let written = 0
    while (written < bytes.length) {
      const { bytesWritten } = await this.handle.write(bytes, written, bytes.length - written, this.end)
      written += bytesWritten
      this.end += bytesWritten
    }
  }

  private align(): number {
    this.end = Math.ceil(this.end / ALIGNMENT) * ALIGNMENT
    return this.end
  }
}

/** Codes cannot say NaN or infinity: they would stand for other numbers, and the model compute with these without a word. */
function checkFinite({ file, name }: WeightSource, values: Float32Array): void {
  // 0 times a number is 0, times anything else NaN: one multiplication a weight.
  let zero = 0
  for (let i = 0; i < values.length; i++) zero += 0 * values[i]
  if (zero === 0) return
  const bad = values.find((value) => !Number.isFinite(value))
  throw new GspoError(
    'BAD_SAFETENSORS',
    `${file}: ${name} holds ${bad}, which has no 4-bit form: the file is damaged, or was saved in too narrow a type; download it again`,
  )
}

/** A tensor's values as float32, in chunks of at most CHUNK_ELEMENTS numbers, each a multiple of `unit` but for the last. */
async function* readFloats(source: WeightSource, unit = 1): AsyncGenerator<Float32Array> {
  const width = source.stored === 'F32' ? 4 : 2
  const chunkBytes = Math.max(Math.floor(CHUNK_ELEMENTS / unit), 1) * unit * width
  const handle = await open(source.file)
  try {
    for (let at = 0; at < source.byteLength;) {
      const bytes = new Uint8Array(Math.min(chunkBytes, source.byteLength - at))
      let filled = 0
      while (filled < bytes.length) {
        const { bytesRead } = await handle.read(
          bytes,
          filled,
          bytes.length - filled,
          source.offset + at + filled,
        )
        if (bytesRead === 0)
          throw new GspoError(
            'BAD_SAFETENSORS',
            `${source.file} ended inside ${source.name} while it was read`,
          )
        filled += bytesRead
      }
      at += bytes.length
      if (source.stored === 'F32') yield new Float32Array(bytes.buffer)
      else if (source.stored === 'BF16') yield decodeBf16(bytes)
      else yield Float32Array.from(new Float16Array(bytes.buffer))
    }
  } finally {
    await handle.close()
  }
}
