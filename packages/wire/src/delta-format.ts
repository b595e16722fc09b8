/** DELTA version 1: constants and the 24-byte header. The format is specified in docs/DELTA.md. */
import { equalBytes, utf8 } from './bytes.ts'
import { WireError } from './errors.ts'

/** Element types, in the order of their codes 0 to 4. */
export const DELTA_DTYPES = ['f32', 'f16', 'bf16', 'i8', 'bitdelta'] as const
/** How a tensor's numbers are stored. */
export type DeltaDtype = (typeof DELTA_DTYPES)[number]

/** Compressions of tensor data, in the order of their codes 0 to 2. */
export const DELTA_COMPRESSIONS = ['none', 'lz4', 'zstd'] as const
/** How each tensor's stored bytes are compressed. */
export type DeltaCompression = (typeof DELTA_COMPRESSIONS)[number]

/** Version this code writes and reads. */
export const DELTA_VERSION = 1
/** Bytes of the header. */
export const DELTA_HEADER_BYTES = 24
/** Bytes of the body's SHA3-256 that the header keeps. */
export const DELTA_CHECKSUM_BYTES = 16
/** Largest rank: it is one byte. */
export const DELTA_MAX_RANK = 255

/** The header's fields. */
export interface DeltaHeader {
  readonly version: number
  readonly compression: DeltaCompression
  /** Flag bit 0: a signature block follows the body. */
  readonly isSigned: boolean
  /** The first 16 bytes of SHA3-256 over the body. */
  readonly checksum: Uint8Array
}

const MAGIC = utf8('DELTA')
const FLAG_SIGNED = 1

/** The 24 bytes that open a file. */
export function encodeDeltaHeader(header: Omit<DeltaHeader, 'version'>): Uint8Array {
  const bytes = new Uint8Array(DELTA_HEADER_BYTES)
  bytes.set(MAGIC, 0)
  bytes[5] = DELTA_VERSION
  bytes[6] = DELTA_COMPRESSIONS.indexOf(header.compression)
  bytes[7] = header.isSigned ? FLAG_SIGNED : 0
  bytes.set(header.checksum.subarray(0, DELTA_CHECKSUM_BYTES), 8)
  return bytes
}

/** Reads the header. Throws `BAD_DELTA` without the magic, `UNSUPPORTED` for a version, compression or flag not known. */
export function decodeDeltaHeader(bytes: Uint8Array): DeltaHeader {
  const [version = 0, compressionCode = 0, flags = 0] = bytes.subarray(5, 8)
  if (bytes.length !== DELTA_HEADER_BYTES || !equalBytes(bytes.subarray(0, 5), MAGIC)) {
    throw new WireError('BAD_DELTA', 'the first bytes are not "DELTA": this is not a DELTA file')
  }
  if (version !== DELTA_VERSION) {
    throw new WireError('UNSUPPORTED', `DELTA version ${version}, this reader knows ${DELTA_VERSION}`)
  }
  const compression = DELTA_COMPRESSIONS[compressionCode]
  if (compression === undefined) {
    throw new WireError(
      'UNSUPPORTED',
      `compression code ${compressionCode}, expected 0 (none), 1 (LZ4) or 2 (zstd)`,
    )
  }
  if ((flags & ~FLAG_SIGNED) !== 0) {
    throw new WireError('UNSUPPORTED', `flags ${flags}, this reader knows only bit 0`)
  }
  return { version, compression, isSigned: (flags & FLAG_SIGNED) !== 0, checksum: bytes.slice(8) }
}
