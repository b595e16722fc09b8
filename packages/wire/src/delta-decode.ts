/** Reads DELTA files as a stream, one tensor at a time, trusting no length, count or order that the file claims. */
import type { ByteSource } from './byte-reader.ts'
import { ByteReader } from './byte-reader.ts'
import { strictUtf8 } from './bytes.ts'
import { parseCanonicalJson } from './canonical-json.ts'
import { decompressTensor, maxStoredBytes } from './compression.ts'
import type { DeltaLimits } from './defaults.ts'
import { DEFAULT_DELTA_LIMITS } from './defaults.ts'
import type { DeltaDtype, DeltaHeader } from './delta-format.ts'
import { DELTA_CHECKSUM_BYTES, DELTA_DTYPES, DELTA_HEADER_BYTES, decodeDeltaHeader } from './delta-format.ts'
import type { DeltaMetadata } from './delta-metadata.ts'
import { checkDeltaMetadata } from './delta-metadata.ts'
import type { DeltaSignature } from './delta-signatures.ts'
import { readSignatureBlock } from './delta-signatures.ts'
import { WireError } from './errors.ts'
import { pacedSha3_256, type PacedHash } from './hash-thread.ts'
import { Pacer } from './pacer.ts'
import { unpackTensor } from './tensor-codec.ts'
import { elementCount, packedBytes } from './tensor-layout.ts'

/** A tensor as read: its values are float32 whatever dtype stored them, in fresh memory. */
export interface DeltaTensor {
  readonly name: string
  readonly dtype: DeltaDtype
  readonly shape: readonly number[]
  readonly values: Float32Array
}

/**
 * What the reader hashes: `checksum` only what finds damage, `all` also what signatures and attestations cover (up to
 * twice more time), `none` nothing, for files that this process has verified before.
 */
export type DeltaHashing = 'none' | 'checksum' | 'all'

/** What is known after the last byte. */
export interface DeltaTail {
  readonly signatures: readonly DeltaSignature[]
  /** SHA3-256 over the body; null with hashing 'none'. */
  readonly bodySha3: Uint8Array | null
  /** SHA3-256 over header and body, which the signatures cover; null unless hashing is 'all'. */
  readonly fileSha3: Uint8Array | null
  /** SHA3-256 over the body from the tensor count on; null unless hashing is 'all' and the metadata is attested. */
  readonly tensorsSha3: Uint8Array | null
  /** Bytes of the whole file. */
  readonly fileBytes: number
}

/** A file whose header and metadata are read and whose tensors are still to come. Nothing is proven before `finish`. */
export interface DecodedDelta {
  readonly header: DeltaHeader
  readonly metadata: DeltaMetadata
  readonly tensorCount: number
  /** The tensors in order, once. After the last one the checksum has been compared: throws `BAD_CHECKSUM`. */
  tensors(): AsyncGenerator<DeltaTensor>
  /** Reads what is left, to the last byte. Throws like `tensors`; `BAD_DELTA` if bytes follow the end. */
  finish(): Promise<DeltaTail>
  /** Gives up: tells the source that no more will be read. Needed only by who does not read to the end. */
  close(): Promise<void>
}

/**
 * Reads header and metadata of `source`. A large file, of about `expectedBytes`, is hashed on a thread beside this one.
 * Throws `WireError` of the kinds that `WireErrorCode` lists for DELTA.
 */
export async function decodeDelta(
  source: ByteSource,
  limits: DeltaLimits = DEFAULT_DELTA_LIMITS,
  hashing: DeltaHashing = 'checksum',
  expectedBytes = 0,
): Promise<DecodedDelta> {
  const reader = new ByteReader(source)
  const delta = new DeltaReader(reader, limits, hashing, expectedBytes)
  try {
    return await delta.open()
  } catch (error) {
    delta.dropHashes()
    await reader.close()
    throw error
  }
}

/** `decodeDelta` of a file in memory. The tensors' values do not share its memory. */
export function decodeDeltaBuffer(
  bytes: Uint8Array,
  limits: DeltaLimits = DEFAULT_DELTA_LIMITS,
  hashing: DeltaHashing = 'checksum',
): Promise<DecodedDelta> {
  return decodeDelta([bytes], limits, hashing, bytes.length)
}

class DeltaReader {
  readonly #reader: ByteReader
  readonly #limits: DeltaLimits
  readonly #pacer = new Pacer()
  readonly #expectedBytes: number
  readonly #body: PacedHash | null
  readonly #file: PacedHash | null
  #tensors: PacedHash | null = null
  #bodySha3: Uint8Array | null = null
  #tensorCount = 0
  #tensorsRead = 0
  #totalBytes = 0
  #previousName: Uint8Array = new Uint8Array(0)
  #stage: 'opening' | 'ready' | 'tensors' | 'ended' | 'failed' = 'opening'

  constructor(reader: ByteReader, limits: DeltaLimits, hashing: DeltaHashing, expectedBytes: number) {
    this.#reader = reader
    this.#limits = limits
    this.#expectedBytes = expectedBytes
    this.#body = hashing === 'none' ? null : pacedSha3_256(expectedBytes, 0)
    this.#file = hashing === 'all' ? pacedSha3_256(expectedBytes, 1) : null
  }

  async open(): Promise<DecodedDelta> {
    const headerBytes = await this.#reader.read(DELTA_HEADER_BYTES, 'the header')
    const header = decodeDeltaHeader(headerBytes)
    await this.#file?.update(headerBytes)
    this.#reader.observer = (bytes) => this.#hash(bytes)
    const length = await this.#u32('the metadata length')
    requireAtMost(length, this.#limits.maxMetadataBytes, 'metadata', 'bytes')
    const json = parseCanonicalJson(await this.#reader.read(length, 'the metadata'), 'metadata')
    const metadata = checkDeltaMetadata(json)
    if (this.#file !== null && metadata.attestation.type !== 'none')
      this.#tensors = pacedSha3_256(this.#expectedBytes, 0)
    this.#tensorCount = await this.#u32('the tensor count')
    requireAtMost(this.#tensorCount, this.#limits.maxTensors, 'the file', 'tensors')
    this.#stage = 'ready'
    return {
      header,
      metadata,
      tensorCount: this.#tensorCount,
      tensors: () => this.#readTensors(header),
      finish: () => this.#finish(header),
      close: () => this.#close(),
    }
  }

  async *#readTensors(header: DeltaHeader): AsyncGenerator<DeltaTensor> {
    if (this.#stage !== 'ready')
      throw new WireError('BAD_STATE', `tensors() in stage '${this.#stage}', expected 'ready'`)
    this.#stage = 'tensors'
    while (this.#tensorsRead < this.#tensorCount) yield await this.#guard(() => this.#readTensor(header))
    await this.#guard(() => this.#endBody(header))
  }

  async #finish(header: DeltaHeader): Promise<DeltaTail> {
    if (this.#stage === 'failed' || this.#stage === 'ended') {
      throw new WireError('BAD_STATE', `finish() in stage '${this.#stage}'`)
    }
    return this.#guard(async () => {
      while (this.#tensorsRead < this.#tensorCount) await this.#readTensor(header)
      await this.#endBody(header)
      const signatures = header.isSigned ? await readSignatureBlock(this.#reader) : []
      const fileBytes = this.#reader.offset
      if (!(await this.#reader.isAtEnd())) {
        throw new WireError('BAD_DELTA', `bytes follow the file's end at ${fileBytes}`)
      }
      this.#stage = 'ended'
      await this.#reader.close()
      const fileSha3 = (await this.#file?.digest()) ?? null
      return {
        signatures,
        bodySha3: this.#bodySha3,
        fileSha3,
        tensorsSha3: (await this.#tensors?.digest()) ?? null,
        fileBytes,
      }
    })
  }

  async #close(): Promise<void> {
    if (this.#stage === 'ended' || this.#stage === 'failed') return
    this.#stage = 'failed'
    this.dropHashes()
    await this.#reader.close()
  }

  async #readTensor({ compression }: DeltaHeader): Promise<DeltaTensor> {
    const name = await this.#readName()
    const [dtypeCode = 0, rank = 0] = await this.#reader.read(2, `dtype and rank of ${name}`)
    const dtype = DELTA_DTYPES[dtypeCode]
    if (dtype === undefined)
      throw new WireError('UNSUPPORTED', `tensor ${name} has dtype code ${dtypeCode}, expected 0 to 4`)
    const shape = readU64s(await this.#reader.read(8 * rank, `the shape of ${name}`))
    const elements = elementCount(shape, Math.floor(this.#limits.maxTensorBytes / 4))
    this.#totalBytes += 4 * elements
    requireAtMost(this.#totalBytes, this.#limits.maxTotalBytes, 'all tensors', 'bytes')
    const expectedBytes = packedBytes(dtype, shape, elements)
    const [storedBytes = -1] = readU64s(await this.#reader.read(8, `the data length of ${name}`))
    const packed = await this.#readData(name, compression, storedBytes, expectedBytes)
    this.#tensorsRead += 1
    await this.#pacer.spend(expectedBytes)
    return { name, dtype, shape, values: unpackTensor(dtype, shape, elements, packed, name) }
  }

  async #readData(
    name: string,
    compression: DeltaHeader['compression'],
    storedBytes: number,
    expectedBytes: number,
  ): Promise<Uint8Array> {
    const max = expectedBytes === 0 ? 0 : maxStoredBytes(compression, expectedBytes)
    const isWrong = compression === 'none' || expectedBytes === 0 ? storedBytes !== max : storedBytes > max
    if (isWrong) {
      throw new WireError('BAD_DELTA', `tensor ${name} stores ${storedBytes} bytes, its shape allows ${max}`)
    }
    const stored = await this.#reader.read(storedBytes, `the data of ${name}`)
    return expectedBytes === 0 ? stored : decompressTensor(compression, stored, expectedBytes)
  }

  /** Names are strictly ascending by their bytes, so a duplicate cannot hide. */
  async #readName(): Promise<string> {
    const length = await this.#u32('a tensor name length')
    requireAtMost(length, this.#limits.maxNameBytes, 'a tensor name', 'bytes')
    if (length === 0) throw new WireError('BAD_DELTA', 'a tensor name is empty')
    const bytes = new Uint8Array(await this.#reader.read(length, 'a tensor name'))
    const name = strictUtf8(bytes, 'a tensor name')
    const order = Buffer.compare(this.#previousName, bytes)
    if (order >= 0) {
      throw new WireError(
        'BAD_DELTA',
        order === 0 ? `two tensors are named ${name}` : `tensor ${name} is out of order`,
      )
    }
    this.#previousName = bytes
    return name
  }

  /** Compares the checksum once the body's last byte has been read. */
  async #endBody({ checksum }: DeltaHeader): Promise<void> {
    this.#reader.observer = null
    if (this.#body !== null && this.#bodySha3 === null) {
      this.#bodySha3 = await this.#body.digest()
      if (Buffer.compare(this.#bodySha3.subarray(0, DELTA_CHECKSUM_BYTES), checksum) !== 0) {
        throw new WireError(
          'BAD_CHECKSUM',
          "the body's SHA3-256 does not begin with the header's checksum: it was altered",
        )
      }
    }
  }

  /** Gives the hash threads back. */
  dropHashes(): void {
    for (const hash of [this.#body, this.#file, this.#tensors]) hash?.drop()
  }

  /** Shows bytes to all hashes; waits for those that are behind. */
  #hash(bytes: Uint8Array): Promise<void> | undefined {
    const waits = [this.#body, this.#file, this.#tensors].flatMap((hash) => hash?.update(bytes) ?? [])
    return waits.length === 0 ? undefined : Promise.all(waits).then(() => undefined)
  }

  async #guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      this.#stage = 'failed'
      this.dropHashes()
      await this.#reader.close()
      throw error
    }
  }

  async #u32(what: string): Promise<number> {
    const bytes = await this.#reader.read(4, what)
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true)
  }
}

/** Little-endian u64s as numbers; those over 2^53-1 become the float nearest, which every check after this refuses. */
function readU64s(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return Array.from({ length: bytes.length / 8 }, (_, i) => Number(view.getBigUint64(8 * i, true)))
}

function requireAtMost(seen: number, limit: number, what: string, unit: string): void {
  if (seen > limit) throw new WireError('LIMIT_EXCEEDED', `${what}: ${seen} ${unit}, limit ${limit}`)
}
