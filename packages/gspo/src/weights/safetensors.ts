/**
 * The safetensors format: reads and checks headers, reads and writes tensor by tensor, decodes and encodes whole small
 * files. It never maps memory.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { MAX_SAFETENSORS_HEADER_BYTES } from '../defaults.ts'
import { GspoError } from '../errors.ts'

/** Element types of the format that this package reads. */
export type SafetensorsType = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U8' | 'BOOL'

const BYTES: Record<SafetensorsType, number> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
}

/** Where a tensor lies in its file. */
export interface TensorEntry {
  readonly dtype: SafetensorsType
  readonly shape: readonly number[]
  /** First byte in the file. */
  readonly offset: number
  readonly byteLength: number
}

/** A checked header. */
export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorEntry>
  readonly metadata: Readonly<Record<string, string>>
}

/** A tensor in memory: floats of any width as float32, 32-bit integers as they are. */
export interface TensorValue {
  readonly shape: readonly number[]
  readonly values: Float32Array | Int32Array
}

/**
 * Reads and checks a file's header: lengths, offsets, shapes against the file's size.
 * Throws FILE_MISSING or BAD_SAFETENSORS.
 */
export async function readSafetensorsHeader(file: string): Promise<SafetensorsHeader> {
  const handle = await open(file).catch((cause: unknown) => {
    throw new GspoError('FILE_MISSING', `cannot open ${file}; check the model folder`, { cause })
  })
  try {
    const { size } = await handle.stat()
    const prefix = Buffer.alloc(Math.min(8, size))
    await handle.read(prefix, 0, prefix.length, 0)
    const headerBytes = headerLength(prefix, size, file)
    const header = Buffer.alloc(headerBytes)
    await handle.read(header, 0, headerBytes, 8)
    return parseHeader(header, size, file)
  } finally {
    await handle.close()
  }
}

/** An open file, read tensor by tensor. */
export interface SafetensorsFile {
  readonly header: SafetensorsHeader
  /** A tensor's values; throws TENSOR_MISSING for a name the file lacks. */
  read(name: string): Promise<TensorValue>
  /** `count` elements of a tensor from the element `first` on; throws TENSOR_MISSING, or TENSOR_SHAPE past its end. */
  readPart(name: string, first: number, count: number): Promise<TensorValue['values']>
  close(): Promise<void>
}

/** Opens a file and checks its header. Throws FILE_MISSING or BAD_SAFETENSORS. */
export async function openSafetensors(file: string): Promise<SafetensorsFile> {
  const header = await readSafetensorsHeader(file)
  const handle = await open(file).catch((cause: unknown) => {
    throw new GspoError('FILE_MISSING', `cannot open ${file}`, { cause })
  })
  const entryOf = (name: string): TensorEntry => {
    const entry = header.tensors.get(name)
    if (entry === undefined) throw new GspoError('TENSOR_MISSING', `${file} has no tensor ${name}`)
    return entry
  }
  return {
    header,
    async read(name) {
      const { offset, byteLength, dtype, shape } = entryOf(name)
      const raw = await readRange(handle, offset, byteLength, file)
      return { shape, values: decodeValues(raw, dtype, name) }
    },
    async readPart(name, first, count) {
      const { offset, byteLength, dtype } = entryOf(name)
      const size = BYTES[dtype]
      if (first < 0 || (first + count) * size > byteLength)
        throw new GspoError(
          'TENSOR_SHAPE',
          `${file}: ${name} has ${byteLength / size} elements, not ${first + count}`,
        )
      return decodeValues(await readRange(handle, offset + first * size, count * size, file), dtype, name)
    },
    close: () => handle.close(),
  }
}

/** Bytes of a part of a file. Throws BAD_SAFETENSORS when it has become shorter since its header was read. */
async function readRange(
  handle: FileHandle,
  offset: number,
  length: number,
  source: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const raw = new Uint8Array(length)
  let done = 0
  while (done < length) {
    const { bytesRead } = await handle.read(raw, done, length - done, offset + done)
    if (bytesRead === 0)
      throw new GspoError(
        'BAD_SAFETENSORS',
        `${source} ends at byte ${offset + done}; it changed while it was read`,
      )
    done += bytesRead
  }
  return raw
}

/** Decodes a whole file from its bytes; throws BAD_SAFETENSORS. */
export function decodeSafetensors(
  bytes: Uint8Array,
  source = 'safetensors bytes',
): { tensors: Map<string, TensorValue>; metadata: Readonly<Record<string, string>> } {
  const headerBytes = headerLength(bytes, bytes.length, source)
  const { tensors, metadata } = parseHeader(bytes.subarray(8, 8 + headerBytes), bytes.length, source)
  const decoded = new Map<string, TensorValue>()
  for (const [name, entry] of tensors) {
    // A copy, aligned for any element type; slice() of a Node Buffer would be a view.
    const raw = new Uint8Array(bytes.subarray(entry.offset, entry.offset + entry.byteLength))
    decoded.set(name, { shape: entry.shape, values: decodeValues(raw, entry.dtype, name) })
  }
  return { tensors: decoded, metadata }
}

/** A tensor whose values are made or read when it is its turn. */
export interface TensorToWrite {
  readonly name: string
  readonly shape: readonly number[]
  /** As many float32 numbers as the shape says. */
  readonly values: () => Float32Array | Promise<Float32Array>
}

/** A file of float32 tensors in the order given, one of them in memory at a time; the same bytes as `encodeSafetensors`. */
export async function* safetensorsChunks(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = {},
): AsyncGenerator<Uint8Array> {
  yield encodeHeader(
    tensors.map(({ name, shape }) => {
      const elements = shape.reduce((product, size) => product * size, 1)
      return { name, dtype: 'F32', shape, byteLength: 4 * elements }
    }),
    metadata,
  )
  for (const { name, shape, values: read } of tensors) {
    const values = await read()
    if (values.length !== shape.reduce((product, size) => product * size, 1))
      throw new GspoError(
        'BAD_SAFETENSORS',
        `${name} has ${values.length} values for shape [${shape.join(', ')}]`,
      )
    yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  }
}

/** Encodes tensors in the order given; the header is padded so that the values are aligned to 8 bytes. */
export function encodeSafetensors(
  tensors: Iterable<readonly [string, TensorValue]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const all = [...tensors].map(([name, { shape, values }]) => ({
    name,
    dtype: values instanceof Float32Array ? ('F32' as const) : ('I32' as const),
    shape,
    byteLength: values.byteLength,
    bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  }))
  const header = encodeHeader(all, metadata)
  const out = new Uint8Array(all.reduce((sum, { byteLength }) => sum + byteLength, header.length))
  out.set(header)
  let at = header.length
  for (const { bytes } of all) {
    out.set(bytes, at)
    at += bytes.length
  }
  return out
}

function encodeHeader(
  tensors: readonly (Omit<TensorEntry, 'offset'> & { readonly name: string })[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const header: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {}
  let offset = 0
  for (const { name, dtype, shape, byteLength } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + byteLength] }
    offset += byteLength
  }
  const json = Buffer.from(JSON.stringify(header), 'utf8')
  const padded = Math.ceil(json.length / 8) * 8
  const bytes = new Uint8Array(8 + padded).fill(0x20, 8)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true)
  bytes.set(json, 8)
  return bytes
}

/** Widens bfloat16 to float32. */
export function decodeBf16(raw: Uint8Array): Float32Array {
  const half = new Uint16Array(raw.buffer, raw.byteOffset, raw.byteLength / 2)
  const words = new Uint32Array(half.length)
  for (let i = 0; i < half.length; i++) words[i] = half[i] << 16
  return new Float32Array(words.buffer)
}

function headerLength(prefix: Uint8Array, fileBytes: number, source: string): number {
  if (fileBytes < 8)
    throw new GspoError(
      'BAD_SAFETENSORS',
      `${source} is ${fileBytes} bytes; a safetensors file has at least 8`,
    )
  const length = Number(new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true))
  if (length > MAX_SAFETENSORS_HEADER_BYTES || length > fileBytes - 8)
    throw new GspoError(
      'BAD_SAFETENSORS',
      `${source} says its header is ${length} bytes, the file has ${fileBytes}; it is truncated or no safetensors file`,
    )
  return length
}

function parseHeader(raw: Uint8Array, fileBytes: number, source: string): SafetensorsHeader {
  let json: unknown
  try {
    json = JSON.parse(Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString('utf8'))
  } catch (cause) {
    throw new GspoError('BAD_SAFETENSORS', `${source} has a header that is no JSON`, { cause })
  }
  if (!isRecord(json)) throw new GspoError('BAD_SAFETENSORS', `${source} has a header that is no JSON object`)
  const dataStart = 8 + raw.length
  const tensors = new Map<string, TensorEntry>()
  for (const [name, entry] of Object.entries(json))
    if (name !== '__metadata__') tensors.set(name, parseEntry(name, entry, dataStart, fileBytes, source))
  const metadata = isRecord(json['__metadata__']) ? json['__metadata__'] : {}
  return {
    tensors,
    metadata: Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, String(value)])),
  }
}

function parseEntry(
  name: string,
  entry: unknown,
  dataStart: number,
  fileBytes: number,
  source: string,
): TensorEntry {
  const fail = (why: string): never => {
    throw new GspoError('BAD_SAFETENSORS', `${source}: tensor ${name} ${why}`)
  }
  if (!isRecord(entry)) return fail('has no description')
  const { dtype, shape, data_offsets: offsets } = entry
  if (typeof dtype !== 'string' || !isKnownType(dtype))
    return fail(`has type ${String(dtype)}; known: ${Object.keys(BYTES).join(', ')}`)
  if (!isSizes(shape)) return fail('has a bad shape')
  if (!isSizes(offsets) || offsets.length !== 2) return fail('has bad offsets')
  const [from = 0, to = 0] = offsets
  const expected = shape.reduce((product, size) => product * size, 1) * BYTES[dtype]
  if (to - from !== expected)
    return fail(`takes ${to - from} bytes, its shape [${shape.join(', ')}] in ${dtype} needs ${expected}`)
  if (dataStart + to > fileBytes)
    return fail(
      `ends at byte ${dataStart + to}, the file has ${fileBytes}; it is truncated, download it again`,
    )
  return { dtype, shape, offset: dataStart + from, byteLength: expected }
}

function decodeValues(
  raw: Uint8Array<ArrayBuffer>,
  dtype: SafetensorsType,
  name: string,
): Float32Array | Int32Array {
  switch (dtype) {
    case 'F32':
      return new Float32Array(raw.buffer)
    case 'F64':
      return Float32Array.from(new Float64Array(raw.buffer))
    case 'F16':
      return Float32Array.from(new Float16Array(raw.buffer))
    case 'BF16':
      return decodeBf16(raw)
    case 'I32':
      return new Int32Array(raw.buffer)
    case 'I64':
      return Int32Array.from(new BigInt64Array(raw.buffer), Number)
    case 'I16':
      return Int32Array.from(new Int16Array(raw.buffer))
    case 'I8':
      return Int32Array.from(new Int8Array(raw.buffer))
    case 'U8':
    case 'BOOL':
      return Int32Array.from(raw)
    default:
      throw new GspoError('BAD_SAFETENSORS', `tensor ${name} has a type that cannot be decoded`)
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isKnownType(name: string): name is SafetensorsType {
  return Object.hasOwn(BYTES, name)
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0)
}
