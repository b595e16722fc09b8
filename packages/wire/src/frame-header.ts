/** The 16 bytes before every sealed frame: what the payload is, in clear, authenticated as associated data. */
import { MAX_FRAME_PAYLOAD_BYTES } from './defaults.ts'
import { WireError } from './errors.ts'

/** Bytes of a frame header. */
export const FRAME_HEADER_BYTES = 16
/** Bytes of the AES-GCM tag that ends a frame. */
export const FRAME_TAG_BYTES = 16

/** What a frame carries. Little-endian: kind u8, zero u8, move u16, round u32, chunk u32, length u32. */
export interface FrameHeader {
  /** u8; its meaning is the caller's. */
  readonly kind: number
  /** u16; the move of the all-reduce. */
  readonly move: number
  /** u32. */
  readonly round: number
  /** u32. */
  readonly chunk: number
  /** u32; payload bytes, without header and tag. */
  readonly length: number
}

/** Header bytes. Throws `BAD_ARGUMENT` when a field does not fit: a wrapped number would be a false statement. */
export function encodeFrameHeader(header: FrameHeader): Buffer {
  requireUnsigned('kind', header.kind, 0xff)
  requireUnsigned('move', header.move, 0xffff)
  requireUnsigned('round', header.round, 0xffffffff)
  requireUnsigned('chunk', header.chunk, 0xffffffff)
  requireUnsigned('length', header.length, MAX_FRAME_PAYLOAD_BYTES)
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES)
  bytes.writeUInt8(header.kind, 0)
  bytes.writeUInt16LE(header.move, 2)
  bytes.writeUInt32LE(header.round, 4)
  bytes.writeUInt32LE(header.chunk, 8)
  bytes.writeUInt32LE(header.length, 12)
  return bytes
}

/** Reads a header that nothing vouches for yet. Throws `BAD_FRAME` on a wrong form, `LIMIT_EXCEEDED` on its length. */
export function decodeFrameHeader(bytes: Uint8Array, maxPayloadBytes: number): FrameHeader {
  if (bytes.length !== FRAME_HEADER_BYTES) {
    throw new WireError('BAD_FRAME', `frame header is ${bytes.length} bytes, expected ${FRAME_HEADER_BYTES}`)
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, FRAME_HEADER_BYTES)
  if (view.getUint8(1) !== 0) {
    throw new WireError('BAD_FRAME', `frame header byte 1 is ${view.getUint8(1)}, expected 0`)
  }
  const length = view.getUint32(12, true)
  if (length > maxPayloadBytes) {
    throw new WireError('LIMIT_EXCEEDED', `frame is ${length} bytes, limit ${maxPayloadBytes}`)
  }
  return {
    kind: view.getUint8(0),
    move: view.getUint16(2, true),
    round: view.getUint32(4, true),
    chunk: view.getUint32(8, true),
    length,
  }
}

function requireUnsigned(name: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new WireError('BAD_ARGUMENT', `frame ${name} is ${value}, expected an integer from 0 to ${max}`)
  }
}
