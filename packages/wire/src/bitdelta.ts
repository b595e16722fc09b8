/**
 * BitDelta (Liu et al., arXiv 2402.10193): a weight delta as its sign bits and a few scales. The scale that minimises
 * the squared error of `scale * sign` is the mean absolute value (their equation 3); theirs covers a whole matrix, here
 * one covers a row, or as many rows as hold 256 elements.
 */
import { bitdeltaLayout } from './tensor-layout.ts'
import { WireError } from './errors.ts'

/** Scales (float32), then sign bits: element i is bit i mod 8 of byte i div 8, 1 for + and 0 for -. */
export function packBitdelta(values: Float32Array, shape: readonly number[]): Uint8Array {
  const { columns, rowsPerScale, scales: scaleCount } = bitdeltaLayout(shape, values.length)
  const group = rowsPerScale * columns
  const buffer = new ArrayBuffer(4 * scaleCount + Math.ceil(values.length / 8))
  const scales = new Float32Array(buffer, 0, scaleCount)
  const signs = new Uint8Array(buffer, 4 * scaleCount)
  for (let s = 0; s < scaleCount; s++) {
    const start = s * group
    const end = Math.min(start + group, values.length)
    let sum = 0
    for (let i = start; i < end; i++) sum += Math.abs(values[i])
    scales[s] = sum / (end - start)
  }
  for (let i = 0; i < values.length; i += 8) {
    let byte = 0
    const width = Math.min(8, values.length - i)
    for (let bit = 0; bit < width; bit++) if (values[i + bit] > 0) byte |= 1 << bit
    signs[i >>> 3] = byte
  }
  return new Uint8Array(buffer)
}

/** `+-scale` for every element. `packed` is 4-byte aligned. Throws `BAD_DELTA` on a negative scale or set padding bits. */
export function unpackBitdelta(packed: Uint8Array, shape: readonly number[], elements: number): Float32Array {
  const { columns, rowsPerScale, scales: scaleCount } = bitdeltaLayout(shape, elements)
  const group = rowsPerScale * columns
  const scales = new Float32Array(packed.buffer, packed.byteOffset, scaleCount)
  const signs = packed.subarray(4 * scaleCount)
  const padding = signs.length * 8 - elements
  if (padding > 0 && signs[signs.length - 1] >>> (8 - padding) !== 0) {
    throw new WireError('BAD_DELTA', `bitdelta's last ${padding} padding bits are not all zero`)
  }
  const out = new Float32Array(elements)
  for (let s = 0; s < scaleCount; s++) {
    const scale = scales[s]
    if (scale < 0 || Object.is(scale, -0)) throw new WireError('BAD_DELTA', `bitdelta scale ${s} is negative`)
    const end = Math.min((s + 1) * group, elements)
    for (let i = s * group; i < end; i++) {
      out[i] = ((signs[i >>> 3] >>> (i & 7)) & 1) === 1 ? scale : -scale
    }
  }
  return out
}
