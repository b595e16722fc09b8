/**
 * How float32 values become bytes on the wire and back. `f32` is exact; `bf16` keeps 8 bits of precision (round to
 * nearest even); `int8` keeps a scale per block of 256 values. Encoding a decoded chunk again gives the same bytes, so
 * what the owner of a segment sends in the all-gather is what every member ends with.
 */
import type { WireType } from '../types.ts'

/** Values that share one scale: 4 bytes in 256 are 1.6 %, and an outlier spoils no more than its block. */
const BLOCK = 256

/** Bytes that `count` values take on the wire. */
export function encodedBytes(wire: WireType, count: number): number {
  switch (wire) {
    case 'f32':
      return count * 4
    case 'bf16':
      return count * 2
    case 'int8':
      return count + Math.ceil(count / BLOCK) * 4
  }
}

/** Values to bytes; for `f32` the very memory of `values`, so it must not change before it is sealed. */
export function encodeValues(wire: WireType, values: Float32Array): Uint8Array {
  switch (wire) {
    case 'f32':
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    case 'bf16':
      return encodeBf16(values)
    case 'int8':
      return encodeInt8(values)
  }
}

/** Bytes to values, `count` of them; for `f32` a view of `bytes` where alignment allows. */
export function decodeValues(wire: WireType, bytes: Uint8Array, count: number): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes)
  switch (wire) {
    case 'f32':
      return new Float32Array(aligned.buffer, aligned.byteOffset, count)
    case 'bf16':
      return decodeBf16(new Uint16Array(aligned.buffer, aligned.byteOffset, count))
    case 'int8':
      return decodeInt8(aligned, count)
  }
}

function encodeBf16(values: Float32Array): Uint8Array {
  // A copy aligned to four bytes, read as integers.
  const bits = new Uint32Array(values.slice().buffer)
  const out = new Uint16Array(values.length)
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i] ?? 0
    const isNaN = (word & 0x7fffffff) > 0x7f800000
    // Round to nearest even; a NaN stays one instead of being carried into infinity.
    out[i] = isNaN ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16
  }
  return new Uint8Array(out.buffer)
}

function decodeBf16(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length)
  for (let i = 0; i < halves.length; i++) bits[i] = (halves[i] ?? 0) << 16
  return new Float32Array(bits.buffer)
}

/**
 * Scales first, then the integers. A scale is a power of two: dividing and multiplying by it is exact, so encoding
 * what was decoded finds the same scale or an equal value, and the bytes' meaning never drifts from hop to hop.
 */
function encodeInt8(values: Float32Array): Uint8Array {
  const blocks = Math.ceil(values.length / BLOCK)
  const out = new Uint8Array(blocks * 4 + values.length)
  const scales = new Float32Array(out.buffer, 0, blocks)
  const codes = new Int8Array(out.buffer, blocks * 4, values.length)
  for (let block = 0; block < blocks; block++) {
    const end = Math.min(values.length, (block + 1) * BLOCK)
    let largest = 0
    for (let i = block * BLOCK; i < end; i++) {
      const size = Math.abs(values[i] ?? 0)
      // A NaN poisons its block on purpose: it must not be summed away unseen.
      if (Number.isNaN(size)) {
        largest = NaN
        break
      }
      if (size > largest) largest = size
    }
    const scale = scaleFor(largest)
    scales[block] = scale
    if (!(scale > 0)) continue
    for (let i = block * BLOCK; i < end; i++) codes[i] = clamp(roundEven((values[i] ?? 0) / scale))
  }
  return out
}

/** The power of two that brings `largest` under 128; 0 where every code would be 0; NaN where there is no scale. */
function scaleFor(largest: number): number {
  if (!(largest < Infinity)) return NaN
  return largest <= 2 ** -127 ? 0 : 2 ** Math.max(-126, Math.ceil(Math.log2(largest / 127)))
}

function decodeInt8(bytes: Uint8Array, count: number): Float32Array {
  const blocks = Math.ceil(count / BLOCK)
  const scales = new Float32Array(bytes.buffer, bytes.byteOffset, blocks)
  const codes = new Int8Array(bytes.buffer, bytes.byteOffset + blocks * 4, count)
  const out = new Float32Array(count)
  for (let i = 0; i < count; i++) out[i] = (codes[i] ?? 0) * (scales[Math.floor(i / BLOCK)] ?? 0)
  return out
}

function clamp(code: number): number {
  return code > 127 ? 127 : code < -127 ? -127 : code
}

function roundEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest < 0.5) return floor
  if (rest > 0.5) return floor + 1
  return floor % 2 === 0 ? floor : floor + 1
}
