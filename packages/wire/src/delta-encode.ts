/**
 * Writes DELTA files. The header, which comes first, holds a hash of the body, so the tensors are packed twice: once to
 * hash, once to write. Memory follows one tensor when their values are given as functions.
 */
import { crc32 } from 'node:zlib'
import type { Attestation } from './attestation/types.ts'
import type { JsonValue } from './canonical-json.ts'
import { canonicalJson } from './canonical-json.ts'
import { concatBytes, equalBytes, utf8 } from './bytes.ts'
import { compressTensor } from './compression.ts'
import { DEFAULT_DELTA_LIMITS } from './defaults.ts'
import type { DeltaCompression, DeltaDtype } from './delta-format.ts'
import { DELTA_DTYPES, encodeDeltaHeader } from './delta-format.ts'
import type { DeltaMetadata } from './delta-metadata.ts'
import { checkDeltaMetadata } from './delta-metadata.ts'
import { attestationDigest, signDelta } from './delta-signatures.ts'
import { WireError } from './errors.ts'
import { sha3_256Stream } from './hash.ts'
import type { Identity } from './identity.ts'
import { encodeKeyBinding } from './key-binding.ts'
import { Pacer, sha3_256Paced } from './pacer.ts'
import { packTensor } from './tensor-codec.ts'
import { elementCount } from './tensor-layout.ts'

/** A tensor to write. `values` as a function is called once a pass (two, three with `attest`), with one answer. */
export interface DeltaTensorSource {
  readonly name: string
  readonly dtype: DeltaDtype
  readonly shape: readonly number[]
  /** Row-major, as many as the shape says, finite. */
  readonly values: Float32Array | (() => Float32Array | Promise<Float32Array>)
}

/** What a file is made of. The same input gives the same bytes, but for the ML-DSA-87 signature, which is hedged. */
export interface DeltaInput {
  /** With `signers`, `worker_id` must be their peer id, and `binding` is filled in. */
  readonly metadata: DeltaMetadata
  /** In any order: the file has them sorted. */
  readonly tensors: Iterable<DeltaTensorSource>
  readonly compression: DeltaCompression
  /** The identity that signs; absent for an unsigned file. */
  readonly signers?: Identity
  /** Called with the attestation digest before the file is written; its answer becomes `metadata.attestation`. */
  readonly attest?: (digest: Uint8Array) => Promise<Attestation>
}

interface PreparedTensor {
  readonly record: Uint8Array
  readonly source: DeltaTensorSource
  readonly elements: number
}

/**
 * Streams a file. The chunks may be views of the tensors' own memory: write or copy each before the tensors change.
 * Throws `BAD_METADATA`, `BAD_ARGUMENT`, `NON_FINITE`; `BAD_STATE` if the values differed between the two passes.
 */
export async function* encodeDelta(input: DeltaInput): AsyncGenerator<Uint8Array> {
  const tensors = prepareTensors(input.tensors)
  const chunks = (): AsyncGenerator<Uint8Array> => tensorChunks(tensors, input.compression)
  const metadata = await prepareMetadata(input, () => sha3_256Of(chunks()))
  const checksum = sha3_256Stream().update(metadata)
  // A CRC is enough to notice values that changed by accident between the passes, and costs a seventh of SHA3.
  let firstCrc = 0
  for await (const chunk of chunks()) {
    checksum.update(chunk)
    firstCrc = crc32(chunk, firstCrc)
  }
  const header = headerOf(input, checksum.digest())
  const file = input.signers === undefined ? null : sha3_256Stream().update(header).update(metadata)
  yield header
  yield metadata
  let crc = 0
  for await (const chunk of chunks()) {
    crc = crc32(chunk, crc)
    file?.update(chunk)
    yield chunk
  }
  if (crc !== firstCrc) {
    throw new WireError(
      'BAD_STATE',
      'the tensors changed while the file was written, discard it and write again',
    )
  }
  if (input.signers !== undefined && file !== null) yield signDelta(input.signers, file.digest())
}

/** The whole file in one buffer, packing and compressing each tensor once. For files that fit into memory. */
export async function encodeDeltaToBuffer(input: DeltaInput): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of tensorChunks(prepareTensors(input.tensors), input.compression)) chunks.push(chunk)
  // Copied before it is hashed: what the caller does to the tensors from here on cannot break the file.
  const section = concatBytes(...chunks)
  const metadata = await prepareMetadata(input, () => sha3_256Paced(section))
  const header = headerOf(input, await sha3_256Paced(metadata, section))
  if (input.signers === undefined) return concatBytes(header, metadata, section)
  const block = signDelta(input.signers, await sha3_256Paced(header, metadata, section))
  return concatBytes(header, metadata, section, block)
}

function headerOf({ compression, signers }: DeltaInput, bodySha3: Uint8Array): Uint8Array {
  return encodeDeltaHeader({ compression, isSigned: signers !== undefined, checksum: bodySha3 })
}

/** u32 length and canonical JSON, with the binding and the attestation filled in. */
async function prepareMetadata(
  input: DeltaInput,
  hashTensors: () => Promise<Uint8Array>,
): Promise<Uint8Array> {
  const metadata = withBinding(input)
  if (input.attest === undefined) return sized(encodeMetadata(metadata))
  const blank = encodeMetadata({ ...metadata, attestation: { type: 'none' } })
  const attestation = await input.attest(attestationDigest(blank, await hashTensors()))
  return sized(encodeMetadata({ ...metadata, attestation }))
}

async function sha3_256Of(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const hash = sha3_256Stream()
  for await (const chunk of chunks) hash.update(chunk)
  return hash.digest()
}

function withBinding({ metadata, signers }: DeltaInput): DeltaMetadata {
  if (signers === undefined) return metadata
  if (metadata.worker_id !== signers.peerId) {
    throw new WireError('BAD_ARGUMENT', `worker_id is ${metadata.worker_id}, the signer is ${signers.peerId}`)
  }
  return { ...metadata, binding: Buffer.from(encodeKeyBinding(signers.binding)).toString('base64') }
}

function encodeMetadata(metadata: DeltaMetadata): Uint8Array {
  const text = canonicalJson(metadata as unknown as JsonValue) // refuses what is not JSON
  checkDeltaMetadata(JSON.parse(text) as JsonValue)
  const bytes = utf8(text)
  const { maxMetadataBytes } = DEFAULT_DELTA_LIMITS
  if (bytes.length > maxMetadataBytes) {
    throw new WireError('BAD_METADATA', `metadata is ${bytes.length} bytes, readers take ${maxMetadataBytes}`)
  }
  return bytes
}

function prepareTensors(sources: Iterable<DeltaTensorSource>): PreparedTensor[] {
  const named = [...sources].map((source) => ({ source, name: utf8(source.name) }))
  named.sort((a, b) => Buffer.compare(a.name, b.name))
  return named.map(({ source, name }, i) => {
    const previous = named[i - 1]
    if (previous !== undefined && equalBytes(previous.name, name)) {
      throw new WireError('BAD_ARGUMENT', `two tensors are named ${source.name}`)
    }
    if (name.length === 0 || name.length > DEFAULT_DELTA_LIMITS.maxNameBytes || !source.name.isWellFormed()) {
      throw new WireError(
        'BAD_ARGUMENT',
        `tensor name is ${name.length} bytes, expected 1 to 1024 of valid text`,
      )
    }
    const elements = elementCount(source.shape, Number.MAX_SAFE_INTEGER / 4)
    const record = Buffer.alloc(4 + name.length + 2 + 8 * source.shape.length)
    record.writeUInt32LE(name.length)
    record.set(name, 4)
    record.writeUInt8(DELTA_DTYPES.indexOf(source.dtype), 4 + name.length)
    record.writeUInt8(source.shape.length, 5 + name.length)
    source.shape.forEach((dimension, d) =>
      record.writeBigUInt64LE(BigInt(dimension), 6 + name.length + 8 * d),
    )
    return { record, source, elements }
  })
}

/** The body from the tensor count on. */
async function* tensorChunks(
  tensors: readonly PreparedTensor[],
  compression: DeltaCompression,
): AsyncGenerator<Uint8Array> {
  const pacer = new Pacer()
  yield u32(tensors.length)
  for (const { record, source, elements } of tensors) {
    const { name, dtype, shape } = source
    const values = typeof source.values === 'function' ? await source.values() : source.values
    if (values.length !== elements) {
      throw new WireError(
        'BAD_ARGUMENT',
        `tensor ${name} has ${values.length} values, its shape says ${elements}`,
      )
    }
    const packed = packTensor(dtype, shape, values, name)
    const stored = packed.length === 0 ? packed : await compressTensor(compression, packed)
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(stored.length))
    yield concatBytes(record, length)
    if (stored.length > 0) yield stored
    await pacer.spend(packed.length)
  }
}

function sized(bytes: Uint8Array): Uint8Array {
  return concatBytes(u32(bytes.length), bytes)
}

function u32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
