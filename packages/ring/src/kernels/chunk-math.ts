/**
 * The arithmetic of one chunk: weigh, add, divide, and put into the wire's number format and back. `f32` is exact;
 * `bf16` keeps 8 bits of precision (round to nearest even); `int8` keeps a power-of-two scale per block of 256 values.
 * Encoding what was decoded gives the same bytes, so what a segment's owner sends is what every member ends with.
 * Works in a fixed scratch memory that stays in cache: bench/all-reduce.ts is the benchmark behind it.
 */
import type { WireType } from '../types.ts'
import { openKernels, type Kernels } from './kernels.ts'

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

/** Scratch for chunks of up to `maxCount` values. What a method returns is valid until the next call. */
export class ChunkMath {
  readonly wire: WireType
  readonly #kernels: Kernels
  readonly #values: Float32Array
  readonly #part: Uint8Array
  readonly #code: Uint8Array
  readonly #residual: Uint16Array

  constructor(wire: WireType, maxCount: number) {
    const padded = Math.ceil(maxCount / BLOCK) * BLOCK
    // Values, floats that came in, codes either way, residual; each with room for its last block's padding.
    const sizes = [padded * 4, wire === 'f32' ? padded * 4 : 0, padded * 2 + padded / 64, padded * 2]
    const { kernels, memory } = openKernels(sizes.reduce((sum, size) => sum + size, 0))
    const [values, part, code, residual] = sizes.map((_, i) => sizes.slice(0, i).reduce((a, b) => a + b, 0))
    this.wire = wire
    this.#kernels = kernels
    this.#values = new Float32Array(memory, values, padded)
    this.#part = new Uint8Array(memory, part, sizes[1])
    this.#code = new Uint8Array(memory, code, padded * 2 + padded / 64)
    this.#residual = new Uint16Array(memory, residual, padded)
  }

  /** The first `count` values of the scratch. */
  values(count: number): Float32Array {
    return this.#values.subarray(0, count)
  }

  /** values = own * weight (+ residual, bf16) */
  load(own: Float32Array, weight: number, residual: Uint16Array | null): void {
    this.#values.set(own)
    const padded = pad(own.length)
    if (residual !== null) {
      this.#residual.set(residual)
      this.#kernels.weigh(this.#values.byteOffset, weight, this.#residual.byteOffset, padded)
    } else if (weight !== 1) this.#kernels.scale(this.#values.byteOffset, weight, padded)
  }

  /** values = what `payload` encodes + own * weight (+ residual), each operation rounded to float32. */
  loadAndAdd(own: Float32Array, weight: number, residual: Uint16Array | null, payload: Uint8Array): void {
    const { length } = own
    this.load(own, residual === null ? 1 : weight, residual)
    const rest = residual === null ? weight : 1
    const came = this.wire === 'f32' ? this.#part : this.#code
    came.set(payload)
    this.#add(came.byteOffset, rest, length)
  }

  /** values /= total; zeros when total is zero, because a mean of nothing changes nothing. */
  divide(count: number, total: number): void {
    if (total === 0) {
      this.#values.fill(0, 0, count)
      return
    }
    const divisor = Math.fround(total)
    const inverse = 1 / divisor
    // By a power of two both give the same bits, and a product is several times faster.
    if (isPowerOfTwo(divisor)) this.#kernels.scale(this.#values.byteOffset, inverse, pad(count))
    else this.#kernels.divide(this.#values.byteOffset, divisor, pad(count))
  }

  /** values = what `payload` encodes. */
  decode(payload: Uint8Array, count: number): Float32Array {
    if (this.wire === 'f32') new Uint8Array(this.#values.buffer, this.#values.byteOffset).set(payload)
    else {
      this.#code.set(payload)
      this.#decode(this.#values.byteOffset, this.#code.byteOffset, count)
    }
    return this.values(count)
  }

  /** The first `count` values as wire bytes. */
  encode(count: number): Uint8Array {
    const { byteOffset: from } = this.#values
    const { byteOffset: out } = this.#code
    if (this.wire === 'bf16') this.#kernels.encodeBf16(out, from, pad(count))
    if (this.wire === 'int8') {
      const blocks = this.#padBlocks(count)
      this.#kernels.encodeInt8(out, out + blocks * 4, from, blocks)
    }
    return this.#encoded(count)
  }

  /** `int8`: the same; what the rounding lost, times `unit`, goes to `residual` (bf16; 0 where it is not finite). */
  encodeKeeping(count: number, residual: Uint16Array, unit: number): Uint8Array {
    const { byteOffset: from } = this.#values
    const { byteOffset: out } = this.#code
    const { byteOffset: lost } = this.#residual
    const blocks = this.#padBlocks(count)
    this.#kernels.encodeInt8Keeping(out, out + blocks * 4, from, lost, unit, blocks)
    residual.set(this.#residual.subarray(0, count))
    return this.#encoded(count)
  }

  /** values = what the wire makes of them: the owner of a segment ends with what the others get. Call after `encode`. */
  settle(count: number): void {
    if (this.wire !== 'f32') this.#decode(this.#values.byteOffset, this.#code.byteOffset, count)
  }

  #encoded(count: number): Uint8Array {
    const { buffer, byteOffset } = this.wire === 'f32' ? this.#values : this.#code
    return new Uint8Array(buffer, byteOffset, encodedBytes(this.wire, count))
  }

  #decode(to: number, from: number, count: number): void {
    const blocks = Math.ceil(count / BLOCK)
    if (this.wire === 'bf16') this.#kernels.decodeBf16(to, from, pad(count))
    else this.#kernels.decodeInt8(to, from, from + blocks * 4, blocks)
  }

  #add(from: number, weight: number, count: number): void {
    const { byteOffset: to } = this.#values
    const blocks = Math.ceil(count / BLOCK)
    switch (this.wire) {
      case 'f32':
        this.#kernels.accumulate(to, from, weight, pad(count))
        break
      case 'bf16':
        this.#kernels.addBf16(to, weight, from, pad(count))
        break
      case 'int8':
        this.#kernels.addInt8(to, weight, from, from + blocks * 4, blocks)
        break
    }
  }

  /** What lies behind the values must not raise the last block's scale. */
  #padBlocks(count: number): number {
    const blocks = Math.ceil(count / BLOCK)
    this.#values.fill(0, count, blocks * BLOCK)
    return blocks
  }
}

/** Kernels take sixteen values at a time; the scratch has room for it. */
function pad(count: number): number {
  return (count + 15) & ~15
}

function isPowerOfTwo(value: number): boolean {
  const [bits] = new Uint32Array(Float32Array.of(value).buffer)
  // Powers whose inverse is a normal number too: no fraction, exponent from 2^-126 to 2^126.
  return (bits & 0x7fffff) === 0 && bits >>> 23 > 0 && bits >>> 23 < 254
}
