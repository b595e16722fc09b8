/**
 * Frozen weights in the memory of TensorFlow.js: read once, widened or dequantised to float32, shared by all sessions.
 * The library has neither 16-bit nor 4-bit numbers, so 4-bit weights give the same numbers here and save no memory.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { GspoError } from '../errors.ts'
import type { WeightSource } from '../graph/ops.ts'
import { dequantiseBytes, dequantiseRows } from '../weights/quantise.ts'
import { decodeBf16 } from '../weights/safetensors.ts'
import type { Tf } from './library.ts'
import type { Value } from './primitives.ts'

/** Bytes of 16-bit floats that are widened at once. */
const CHUNK_BYTES = 1 << 24

/** Most bytes of one read call; the system takes no more than 2 GB. */
const READ_BYTES = 1 << 30

/** The weights of one engine. */
export class WeightStore {
  private readonly tf: Tf
  private readonly known = new Map<string, Promise<Value>>()

  constructor(tf: Tf) {
    this.tf = tf
  }

  /** The tensor of a source; the store keeps it. Throws FILE_MISSING or BAD_SAFETENSORS. */
  get(source: WeightSource): Promise<Value> {
    const key = `${source.file}:${source.offset}:${source.stored}`
    const known = this.known.get(key)
    if (known !== undefined) return known
    const loading = readWeight(source).then((values) =>
      this.tf.keep(this.tf.tensor(values, [...source.shape])),
    )
    this.known.set(key, loading)
    return loading
  }

  /** Frees all of them; the sessions that use them must be closed. */
  async dispose(): Promise<void> {
    const all = [...this.known.values()]
    this.known.clear()
    for (const loading of await Promise.allSettled(all))
      if (loading.status === 'fulfilled') loading.value.dispose()
  }
}

/** A frozen tensor as float32, row by row. */
export async function readWeight(source: WeightSource): Promise<Float32Array> {
  const handle = await open(source.file).catch((cause: unknown) => {
    throw new GspoError('FILE_MISSING', `cannot open ${source.file}; check the model folder`, { cause })
  })
  try {
    return await decode(handle, source)
  } finally {
    await handle.close()
  }
}

async function decode(handle: FileHandle, source: WeightSource): Promise<Float32Array> {
  const { shape, stored, offset, byteLength, scales } = source
  const count = shape.reduce((product, size) => product * size, 1)
  switch (stored) {
    case 'F32': {
      const values = new Float32Array(count)
      await fill(handle, new Uint8Array(values.buffer), offset, source)
      return values
    }
    case 'F16':
    case 'BF16': {
      const values = new Float32Array(count)
      for (let at = 0; at < byteLength; at += CHUNK_BYTES) {
        const raw = new Uint8Array(Math.min(CHUNK_BYTES, byteLength - at))
        await fill(handle, raw, offset + at, source)
        values.set(stored === 'BF16' ? decodeBf16(raw) : new Float16Array(raw.buffer), at / 2)
      }
      return values
    }
    case 'U4':
    case 'U8': {
      if (scales === undefined) throw new GspoError('BAD_GRAPH', `weight ${source.name} has codes, no scales`)
      const codes = new Uint8Array(byteLength)
      const factors = new Float32Array(count / scales.block)
      await fill(handle, codes, offset, source)
      await fill(handle, new Uint8Array(factors.buffer), scales.offset, source)
      const dequantise = stored === 'U4' ? dequantiseRows : dequantiseBytes
      return dequantise({ codes, scales: factors }, scales.block)
    }
  }
}

/** Reads until `into` is full. */
async function fill(
  handle: FileHandle,
  into: Uint8Array,
  position: number,
  { file, name }: WeightSource,
): Promise<void> {
  for (let filled = 0; filled < into.length;) {
    const wanted = Math.min(into.length - filled, READ_BYTES)
    const { bytesRead } = await handle.read(into, filled, wanted, position + filled)
    if (bytesRead === 0)
      throw new GspoError('BAD_SAFETENSORS', `${file} ended inside ${name} while it was read`)
    filled += bytesRead
  }
}
