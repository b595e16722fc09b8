/**
 * The outside of an LZ4 frame (LZ4 frame format 1.6.x), checked before a decompressor sees it: the `lz4-napi` library
 * has no output limit, so a frame must first show that it cannot unpack to more than what is expected.
 */
import { LZ4_MAX_BLOCK_BYTES } from './defaults.ts'
import { WireError } from './errors.ts'

const MAGIC = 0x184d2204

/**
 * Requires exactly one frame, no dictionary, a content size (where given) equal to `expectedBytes`, no more blocks than
 * that many bytes fill, and nothing after it. Decompressing then takes at most one block (4 MiB) more than expected.
 * Throws `BAD_COMPRESSION`.
 */
export function requireLz4Frame(stored: Uint8Array, expectedBytes: number): void {
  const view = new DataView(stored.buffer, stored.byteOffset, stored.length)
  const need = (end: number): void => {
    if (end > stored.length) throw bad(`ends inside byte ${end} of ${stored.length}`)
  }
  need(7)
  if (view.getUint32(0, true) !== MAGIC) throw bad('lacks the magic 0x184D2204')
  const flags = view.getUint8(4)
  const blockMax = maxBlockBytes(view.getUint8(5))
  if (flags >>> 6 !== 1 || (flags & 0b10) !== 0) throw bad(`has flags ${flags}, expected version 01`)
  if ((flags & 0b1) !== 0) throw bad('needs a dictionary')
  const hasContentSize = (flags & 0b1000) !== 0
  let offset = hasContentSize ? 15 : 7
  need(offset)
  if (hasContentSize && view.getBigUint64(6, true) !== BigInt(expectedBytes)) {
    throw bad(`says ${view.getBigUint64(6, true)} bytes, the shape says ${expectedBytes}`)
  }
  const blockChecksumBytes = (flags & 0b10000) === 0 ? 0 : 4
  const contentChecksumBytes = (flags & 0b100) === 0 ? 0 : 4
  const maxBlocks = Math.ceil(expectedBytes / blockMax)
  for (let blocks = 0; ; blocks++) {
    need(offset + 4)
    const size = view.getUint32(offset, true)
    offset += 4
    if (size === 0) break
    if (blocks === maxBlocks) throw bad(`has more than the ${maxBlocks} blocks of ${blockMax} bytes it needs`)
    offset += (size & 0x7fffffff) + blockChecksumBytes
    need(offset)
  }
  if (offset + contentChecksumBytes !== stored.length) {
    throw bad(`is ${offset + contentChecksumBytes} bytes long, stored are ${stored.length}`)
  }
}

function maxBlockBytes(descriptor: number): number {
  const code = descriptor >>> 4
  if ((descriptor & 0x8f) !== 0 || code < 4 || code > 7) throw bad(`has block descriptor ${descriptor}`)
  return LZ4_MAX_BLOCK_BYTES >>> (2 * (7 - code))
}

function bad(what: string): WireError {
  return new WireError('BAD_COMPRESSION', `LZ4 frame ${what}`)
}
