/**
 * Rewrites frozen matrices once, at load, into a private file that all sessions map: 16-bit floats as float32, and in
 * 4-bit mode the linear layers as blockwise codes. What is float32 already stays where it is.
 */
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

/** A checkpoint whose matrices are ready, and the folder to remove when nothing maps it any more. */
export interface PreparedCheckpoint extends Checkpoint {
  /** Removes the private file; the sessions that map it must be closed first. */
  dispose(): Promise<void>
}

/** Matrices by use: linear layers of the decoder, and the head. */
export interface MatrixUses {
  readonly linears: readonly WeightSource[]
  readonly head: WeightSource
}

/** Alignment of every part of the file, bytes: a cache line, and more than any element type needs. */
const ALIGNMENT = 64

/** Elements converted at once: 16 MB of float32. */
const CHUNK_ELEMENTS = 1 << 22

/**
 * Prepares a checkpoint; without anything to do no file is written. An engine that `canWiden` reads 16-bit floats as they
 * lie in their files.
 */
export async function prepareCheckpoint(
  checkpoint: Checkpoint,
  uses: MatrixUses,
  options: { use4bit: boolean; block: number; canWiden?: boolean },
): Promise<PreparedCheckpoint> {
  const matrices = [...uses.linears, uses.head]
  const canWiden = options.canWiden === true
  if (!options.use4bit && (canWiden || matrices.every(({ stored }) => stored === 'F32')))
    return { ...checkpoint, dispose: () => Promise.resolve() }

  const folder = realpathSync(await mkdtemp(path.join(tmpdir(), 'gym-weights-')))
  const dispose = (): Promise<void> => rm(folder, { recursive: true, force: true })
  try {
    const file = path.join(folder, 'weights.bin')
    const handle = await open(file, 'w')
    const ready = new Map<string, WeightSource>()
    let decodeHead: WeightSource | undefined
    try {
      const writer = new PreparedFile(handle, file)
      for (const source of uses.linears) {
        const block = options.use4bit ? blockOf(source, options.block) : undefined
        if (block !== undefined) ready.set(source.name, await writer.quantised(source, block))
        else if (!canWiden) ready.set(source.name, await writer.widened(source))
      }
      if (!canWiden) ready.set(uses.head.name, await writer.widened(uses.head))
      const headBlock = options.use4bit ? blockOf(uses.head, options.block) : undefined
      if (headBlock !== undefined) decodeHead = await writer.bytes(uses.head, headBlock)
    } finally {
      await handle.close()
    }
    return {
      ...checkpoint,
      get: (name, shape, use = 'values') => {
        const original = checkpoint.get(name, shape)
        if (use === 'values') return original
        return (use === 'decode-head' ? decodeHead : undefined) ?? ready.get(name) ?? original
      },
      dispose,
    }
  } catch (error) {
    await dispose()
    throw error
  }
}

/** The largest block, up to the wanted one, that rows are whole multiples of; undefined for none. */
function blockOf({ shape }: WeightSource, wanted: number): number | undefined {
  const [, columns = 0] = shape
  return QUANT_BLOCKS.findLast((block) => block <= wanted && shape.length === 2 && columns % block === 0)
}

/** Appends tensors to the private file. */
class PreparedFile {
  private readonly handle: FileHandle
  private readonly file: string
  private end = 0

  constructor(handle: FileHandle, file: string) {
    this.handle = handle
    this.file = file
  }

  async widened(source: WeightSource): Promise<WeightSource> {
    if (source.stored === 'F32') return source
    const offset = this.align()
    for await (const values of readFloats(source)) await this.append(values)
    return { ...source, file: this.file, stored: 'F32', offset, byteLength: this.end - offset }
  }

  /** 4-bit codes, their scales, and a code of zero for each block: DequantizeLinear wants it spelled out. */
  async quantised(source: WeightSource, block: number): Promise<WeightSource> {
    const blocks = source.shape.reduce((product, size) => product * size, 1) / block
    const scales = new Float32Array(blocks)
    const offset = this.align()
    let done = 0
    for await (const values of readFloats(source, block)) {
      const part = quantiseRows(values, block)
      scales.set(part.scales, done)
      done += part.scales.length
      await this.append(part.codes)
    }
    const byteLength = this.end - offset
    const scalesOffset = this.align()
    await this.append(scales)
    const zerosOffset = this.align()
    await this.append(new Uint8Array(Math.ceil(blocks / 2)).fill(0x88))
    const place = { file: this.file, stored: 'U4', offset, byteLength } as const
    return { ...source, ...place, scales: { block, offset: scalesOffset, zerosOffset } }
  }

  /** 8-bit codes and their scales: for products only, that take 128 for the code of zero by themselves. */
  async bytes(source: WeightSource, block: number): Promise<WeightSource> {
    const scales = new Float32Array(source.shape.reduce((product, size) => product * size, 1) / block)
    const offset = this.align()
    let done = 0
    for await (const values of readFloats(source, block)) {
      const part = quantiseBytes(values, block)
      scales.set(part.scales, done)
      done += part.scales.length
      await this.append(part.codes)
    }
    const byteLength = this.end - offset
    const scalesOffset = this.align()
    await this.append(scales)
    const place = { file: this.file, stored: 'U8', offset, byteLength } as const
    return { ...source, ...place, scales: { block, offset: scalesOffset, zerosOffset: 0 } }
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
