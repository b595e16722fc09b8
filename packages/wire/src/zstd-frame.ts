/** The outside of a Zstandard frame (RFC 8878, section 3.1.1), checked before the decompressor sees it. */
import { ZSTD_MAX_WINDOW_LOG } from './defaults.ts'
import { WireError } from './errors.ts'

const MAGIC = 0xfd2fb528

/**
 * Requires exactly one frame, no dictionary, a content size equal to `expectedBytes`, a window within the limit, whole
 * blocks and nothing after them. Throws `BAD_COMPRESSION`.
 */
export function requireZstdFrame(stored: Uint8Array, expectedBytes: number): void {
  const view = new DataView(stored.buffer, stored.byteOffset, stored.length)
  const need = (end: number): void => {
    if (end > stored.length) throw bad(`ends inside byte ${end} of ${stored.length}`)
  }
  need(6)
  if (view.getUint32(0, true) !== MAGIC) throw bad('lacks the magic 0xFD2FB528')
  const descriptor = view.getUint8(4)
  const isSingleSegment = (descriptor & 0x20) !== 0
  if ((descriptor & 0x08) !== 0) throw bad('sets a reserved bit')
  if ((descriptor & 0x03) !== 0) throw bad('needs a dictionary')
  let offset = 5
  if (!isSingleSegment) {
    const windowLog = 10 + (view.getUint8(offset++) >>> 3)
    if (windowLog > ZSTD_MAX_WINDOW_LOG)
      throw bad(`needs a window of 2^${windowLog}, limit 2^${ZSTD_MAX_WINDOW_LOG}`)
  }
  const sizeCode = descriptor >>> 6
  const sizeBytes = sizeCode === 0 ? (isSingleSegment ? 1 : 0) : 1 << sizeCode
  need(offset + sizeBytes)
  const contentBytes = contentSize(view, offset, sizeBytes)
  if (contentBytes !== BigInt(expectedBytes))
    throw bad(`says ${contentBytes} bytes, the shape says ${expectedBytes}`)
  offset += sizeBytes
  for (let isLast = false; !isLast;) {
    need(offset + 3)
    const block = view.getUint16(offset, true) | (view.getUint8(offset + 2) << 16)
    isLast = (block & 1) === 1
    const type = (block >>> 1) & 3
    if (type === 3) throw bad('holds a block of the reserved type')
    offset += 3 + (type === 1 ? 1 : block >>> 3)
    need(offset)
  }
  if ((descriptor & 0x04) !== 0) offset += 4
  if (offset !== stored.length) throw bad(`is ${offset} bytes long, stored are ${stored.length}`)
}

function contentSize(view: DataView, offset: number, bytes: number): bigint {
  switch (bytes) {
    case 1:
      return BigInt(view.getUint8(offset))
    case 2:
      return BigInt(view.getUint16(offset, true) + 256)
    case 4:
      return BigInt(view.getUint32(offset, true))
    case 8:
      return view.getBigUint64(offset, true)
    default:
      throw bad('does not say its content size')
  }
}

function bad(what: string): WireError {
  return new WireError('BAD_COMPRESSION', `zstd frame ${what}`)
}
