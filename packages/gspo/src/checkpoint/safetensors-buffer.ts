/**
 * The safetensors format in memory, for checkpoints and adapter folders: 8-byte header length, JSON header, raw
 * little-endian data. Encoding is a function of its input; decoding checks every offset before it reads.
 */
import { MAX_SAFETENSORS_HEADER_BYTES } from '../defaults.ts'
import { GspoError } from '../errors.ts'

/** Element types that checkpoints and adapters use. */
export type BufferDtype = 'F32' | 'F16' | 'BF16' | 'I32'

/** A tensor as stored; `bytes` may be unaligned. */
export interface StoredTensor {
  readonly dtype: BufferDtype
  readonly shape: readonly number[]
  readonly bytes: Uint8Array
}

/** A whole file. */
export interface SafetensorsContent {
  readonly metadata: Readonly<Record<string, string>>
  readonly tensors: ReadonlyMap<string, StoredTensor>
}

const ITEM_BYTES: Readonly<Record<BufferDtype, number>> = { F32: 4, F16: 2, BF16: 2, I32: 4 }

/** Wraps float32 values as a stored tensor (no copy). */
export function floatTensor(values: Float32Array, shape: readonly number[]): StoredTensor {
  return { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) }
}

/** Wraps int32 values as a stored tensor (no copy). */
export function intTensor(values: Int32Array, shape: readonly number[]): StoredTensor {
  return { dtype: 'I32', shape, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) }
}

/** Encodes tensors sorted by name, so that equal content gives equal bytes. */
export function encodeSafetensors(content: SafetensorsContent): Uint8Array {
  const names = [...content.tensors.keys()].sort(byCodeUnit)
  const header: Record<string, unknown> = {}
  if (Object.keys(content.metadata).length > 0)
    header['__metadata__'] = Object.fromEntries(
      Object.entries(content.metadata).sort(([a], [b]) => byCodeUnit(a, b)),
    )
  let offset = 0
  for (const name of names) {
    const tensor = tensorOf(content, name)
    header[name] = {
      dtype: tensor.dtype,
      shape: tensor.shape,
      data_offsets: [offset, offset + tensor.bytes.length],
    }
    offset += tensor.bytes.length
  }
  const json = Buffer.from(JSON.stringify(header), 'utf8')
  // Padded with spaces to 8 bytes, as the reference implementation does, so that data is aligned in a mapped file.
  const headerBytes = Math.ceil(json.length / 8) * 8
  const out = new Uint8Array(8 + headerBytes + offset).fill(0x20, 8, 8 + headerBytes)
  new DataView(out.buffer).setBigUint64(0, BigInt(headerBytes), true)
  out.set(json, 8)
  let position = 8 + headerBytes
  for (const name of names) {
    const { bytes } = tensorOf(content, name)
    out.set(bytes, position)
    position += bytes.length
  }
  return out
}

/** Decodes a file. Throws GspoError BAD_SAFETENSORS; `origin` names the file in messages. */
export function decodeSafetensors(file: Uint8Array, origin: string): SafetensorsContent {
  const fail = (reason: string): GspoError =>
    new GspoError('BAD_SAFETENSORS', `${origin}: ${reason}; the file is damaged or not safetensors`)
  if (file.length < 8) throw fail(`is ${file.length} bytes, a safetensors file has at least 8`)
  const headerBytes = Number(new DataView(file.buffer, file.byteOffset, 8).getBigUint64(0, true))
  if (headerBytes > MAX_SAFETENSORS_HEADER_BYTES || 8 + headerBytes > file.length)
    throw fail(`says its header is ${headerBytes} bytes but the file has ${file.length}`)
  const header = parseHeader(file.subarray(8, 8 + headerBytes), fail)
  const body = file.subarray(8 + headerBytes)
  const metadata: Record<string, string> = {}
  const tensors = new Map<string, StoredTensor>()
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') {
      if (typeof entry !== 'object' || entry === null) throw fail('has a __metadata__ that is not an object')
      for (const [key, value] of Object.entries(entry)) if (typeof value === 'string') metadata[key] = value
    } else {
      tensors.set(name, parseTensor(name, entry, body, fail))
    }
  }
  return { metadata, tensors }
}

/** The values of an F32, F16 or BF16 tensor as float32 (always a copy). Throws GspoError BAD_SAFETENSORS. */
export function toFloat32(tensor: StoredTensor, origin: string): Float32Array {
  const count = tensor.bytes.length / ITEM_BYTES[tensor.dtype]
  const view = new DataView(tensor.bytes.buffer, tensor.bytes.byteOffset, tensor.bytes.byteLength)
  const values = new Float32Array(count)
  switch (tensor.dtype) {
    case 'F32':
      for (let i = 0; i < count; i++) values[i] = view.getFloat32(i * 4, true)
      return values
    case 'F16':
      for (let i = 0; i < count; i++) values[i] = halfToFloat(view.getUint16(i * 2, true))
      return values
    case 'BF16': {
      const bits = new Uint32Array(values.buffer)
      for (let i = 0; i < count; i++) bits[i] = view.getUint16(i * 2, true) << 16
      return values
    }
    case 'I32':
      throw new GspoError('BAD_SAFETENSORS', `${origin}: a tensor is I32 where a floating type was expected`)
  }
}

/** IEEE 754 binary16 to a number. */
function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >>> 10) & 31
  const fraction = bits & 1023
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

function parseHeader(bytes: Uint8Array, fail: (reason: string) => GspoError): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch {
    throw fail('has a header that is not JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw fail('has a header that is not an object')
  return value as Record<string, unknown>
}

function parseTensor(
  name: string,
  entry: unknown,
  body: Uint8Array,
  fail: (reason: string) => GspoError,
): StoredTensor {
  if (
    typeof entry !== 'object' ||
    entry === null ||
    !('dtype' in entry) ||
    !('shape' in entry) ||
    !('data_offsets' in entry)
  )
    throw fail(`tensor ${name} lacks dtype, shape or data_offsets`)
  const { dtype, shape, data_offsets: offsets } = entry
  if (!isDtype(dtype))
    throw fail(
      `tensor ${name} has dtype ${String(dtype)}, expected one of ${Object.keys(ITEM_BYTES).join(', ')}`,
    )
  if (!isCounts(shape)) throw fail(`tensor ${name} has a bad shape`)
  if (!isCounts(offsets) || offsets.length !== 2) throw fail(`tensor ${name} has bad data_offsets`)
  const [start = 0, end = 0] = offsets
  const expected = shape.reduce((product, size) => product * size, ITEM_BYTES[dtype])
  if (end > body.length || end - start !== expected)
    throw fail(`tensor ${name} should take ${expected} bytes and says ${start} to ${end} of ${body.length}`)
  return { dtype, shape, bytes: body.subarray(start, end) }
}

function isDtype(value: unknown): value is BufferDtype {
  return typeof value === 'string' && Object.hasOwn(ITEM_BYTES, value)
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && Number(item) >= 0)
}

function tensorOf(content: SafetensorsContent, name: string): StoredTensor {
  const tensor = content.tensors.get(name)
  if (tensor === undefined) throw new GspoError('BAD_SAFETENSORS', `no tensor ${name}`)
  return tensor
}

function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
