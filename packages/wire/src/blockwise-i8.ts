/** Blockwise 8-bit integers: 256 consecutive elements share a float32 scale, absmax / 127 (Dettmers et al. 2021, 2.1). */
import { I8_BLOCK_ELEMENTS } from './defaults.ts'
import { WireError } from './errors.ts'

/** Scales of all blocks, then one signed byte an element. Error of an element: at most half its block's scale. */
export function packI8(values: Float32Array): Uint8Array {
  const blocks = Math.ceil(values.length / I8_BLOCK_ELEMENTS)
  const buffer = new ArrayBuffer(4 * blocks + values.length)
  const scales = new Float32Array(buffer, 0, blocks)
  const quants = new Int8Array(buffer, 4 * blocks)
  for (let b = 0; b < blocks; b++) {
    const start = b * I8_BLOCK_ELEMENTS
    const end = Math.min(start + I8_BLOCK_ELEMENTS, values.length)
    let max = 0
    for (let i = start; i < end; i++) max = Math.max(max, Math.abs(values[i]))
    const scale = Math.fround(max / 127)
    scales[b] = scale
    // A scale of zero (all zeros, or subnormals too small to divide) leaves the zeros that are there.
    if (scale === 0) continue
    for (let i = start; i < end; i++) {
      quants[i] = Math.max(-127, Math.min(127, Math.round(values[i] / scale)))
    }
  }
  return new Uint8Array(buffer)
}

/** quant * scale in float32. `packed` is 4-byte aligned. Throws `BAD_DELTA` on a negative scale, quant -128 or -0. */
export function unpackI8(packed: Uint8Array, elements: number): Float32Array {
  const blocks = Math.ceil(elements / I8_BLOCK_ELEMENTS)
  const scales = new Float32Array(packed.buffer, packed.byteOffset, blocks)
  const quants = new Int8Array(packed.buffer, packed.byteOffset + 4 * blocks, elements)
  const out = new Float32Array(elements)
  for (let b = 0; b < blocks; b++) {
    const scale = scales[b]
    if (scale < 0 || Object.is(scale, -0)) throw new WireError('BAD_DELTA', `i8 scale ${b} is negative`)
    const end = Math.min((b + 1) * I8_BLOCK_ELEMENTS, elements)
    for (let i = b * I8_BLOCK_ELEMENTS; i < end; i++) {
      const quant = quants[i]
      if (quant === -128) throw new WireError('BAD_DELTA', `i8 element ${i} is -128, expected -127 to 127`)
      out[i] = quant * scale
    }
  }
  return out
}
