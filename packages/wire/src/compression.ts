/** Compression of one tensor's packed bytes: LZ4 frames by lz4-napi, Zstandard by Node, both off the JavaScript thread. */
import { promisify } from 'node:util'
import { constants, zstdCompress, zstdDecompress } from 'node:zlib'
import { compressFrame, decompressFrame } from 'lz4-napi'
import { ZSTD_LEVEL, ZSTD_MAX_WINDOW_LOG } from './defaults.ts'
import type { DeltaCompression } from './delta-format.ts'
import { WireError } from './errors.ts'
import { requireLz4Frame } from './lz4-frame.ts'
import { requireZstdFrame } from './zstd-frame.ts'

const zstd = promisify(zstdCompress)
const unzstd = promisify(zstdDecompress)

/** Stored bytes of `packed`: the same object for 'none', one frame otherwise. A function of its input alone. */
export async function compressTensor(compression: DeltaCompression, packed: Uint8Array): Promise<Uint8Array> {
  switch (compression) {
    case 'none':
      return packed
    case 'lz4':
      return compressFrame(packed)
    case 'zstd':
      return zstd(packed, {
        params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL },
        pledgedSrcSize: packed.length,
      })
  }
}

/**
 * Packed bytes, exactly `expectedBytes` of them. Takes no more memory than that and 4 MiB, whatever `stored` says.
 * Throws `BAD_COMPRESSION`.
 */
export async function decompressTensor(
  compression: DeltaCompression,
  stored: Uint8Array,
  expectedBytes: number,
): Promise<Uint8Array> {
  const packed = await expand(compression, stored, expectedBytes)
  if (packed.length !== expectedBytes) {
    throw new WireError(
      'BAD_COMPRESSION',
      `tensor data is ${packed.length} bytes, its shape says ${expectedBytes}`,
    )
  }
  return packed
}

/** Stored bytes that `packedBytes` may take at most: frames of incompressible data grow a little. */
export function maxStoredBytes(compression: DeltaCompression, packedBytes: number): number {
  return compression === 'none' ? packedBytes : packedBytes + Math.ceil(packedBytes / 128) + 1024
}

async function expand(
  compression: DeltaCompression,
  stored: Uint8Array,
  expectedBytes: number,
): Promise<Uint8Array> {
  try {
    switch (compression) {
      case 'none':
        return stored
      case 'lz4':
        requireLz4Frame(stored, expectedBytes)
        return await decompressFrame(stored)
      case 'zstd':
        requireZstdFrame(stored, expectedBytes)
        return await unzstd(stored, {
          maxOutputLength: Math.max(1, expectedBytes),
          params: { [constants.ZSTD_d_windowLogMax]: ZSTD_MAX_WINDOW_LOG },
        })
    }
  } catch (cause) {
    if (cause instanceof WireError) throw cause
    throw new WireError('BAD_COMPRESSION', `${compression} data does not decompress: ${String(cause)}`, {
      cause,
    })
  }
}
