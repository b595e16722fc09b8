/**
 * The kernels' memory: scratch for one chunk, and long-lived arrays that are lent from it. Whole blocks of a lent array
 * are worked on where they lie; any other array, and the end of a chunk that is no whole block, goes through scratch.
 */
import type { WireType } from '../types.ts'
import { FrameSlots, slotsBytes } from './frame-slots.ts'
import { BLOCK_BYTES, MAX_MEMORY_BYTES, openKernels, type Kernels } from './kernels.ts'

/** Values that are worked on at a time, and in `int8` share a scale: 4 bytes in 256 are 1.6 %. */
export const BLOCK = 256

/** bf16 of -0, the only number that no other is changed by adding. */
const MINUS_ZERO = 0x8000

/** Arrays begin at multiples of this, a page of the processor. */
const ALIGNMENT = 4096

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

/** Addresses of scratch for one chunk each, in the order in which they lie. */
interface Scratch {
  readonly block: number
  /** `bf16`: wire bytes that came, which must outlast those that go */
  readonly came: number
  readonly own: number
  readonly result: number
  readonly residual: number
  readonly noResidual: number
  readonly kept: number
}

/** Scratch for chunks of up to `maxCount` values, and room for lent arrays where the processor's addresses reach. */
export class ChunkMemory {
  readonly kernels: Kernels
  readonly bytes: Uint8Array
  readonly scratch: Scratch
  /** where wire bytes come and go */
  readonly slots: FrameSlots
  readonly #memory: ArrayBuffer
  #free: number

  constructor(maxCount: number, lendableBytes: number) {
    const values = Math.ceil(maxCount / BLOCK) * BLOCK
    const coded = values * 4 + values / 64
    const sizes = [
      BLOCK_BYTES,
      slotsBytes(coded),
      values * 2,
      values * 4,
      values * 4,
      values * 2,
      values * 2,
      values * 2,
    ]
    const ends = sizes.map((_, i) => sizes.slice(0, i + 1).reduce((sum, size) => sum + aligned(size), 0))
    const [slots, came, own, result, residual, noResidual, kept, end] = ends
    this.scratch = { block: 0, came, own, result, residual, noResidual, kept }
    this.#free = end
    const { kernels, memory } = openLargest(end + lendableBytes, end)
    this.kernels = kernels
    this.#memory = memory
    this.bytes = new Uint8Array(memory)
    this.slots = new FrameSlots(this.bytes, slots, coded)
    new Uint16Array(memory, noResidual, values).fill(MINUS_ZERO)
  }

  /** `count` floats, zeros at first and nobody else's; null where there is no room. */
  lendFloats(count: number): Float32Array | null {
    const at = this.#lend(count * 4)
    return at === null ? null : new Float32Array(this.#memory, at, count)
  }

  /** The same of bf16 values. */
  lendHalves(count: number): Uint16Array | null {
    const at = this.#lend(count * 2)
    return at === null ? null : new Uint16Array(this.#memory, at, count)
  }

  /** Where kernels can read `count` values of `array` from `start`, followed by zeros up to a whole block. */
  read(array: Float32Array | Uint16Array, start: number, count: number, scratch: number): number {
    if (this.#isInPlace(array, count)) return array.byteOffset + start * array.BYTES_PER_ELEMENT
    const size = array.BYTES_PER_ELEMENT
    this.bytes.set(bytesOf(array.subarray(start, start + count)), scratch)
    this.bytes.fill(0, scratch + count * size, scratch + Math.ceil(count / BLOCK) * BLOCK * size)
    return scratch
  }

  /** Where kernels can write the same. */
  write(array: Float32Array | Uint16Array, start: number, count: number, scratch: number): number {
    return this.#isInPlace(array, count) ? array.byteOffset + start * array.BYTES_PER_ELEMENT : scratch
  }

  /** Call after kernels have written to `from`, as `write` told. */
  settle(array: Float32Array | Uint16Array, start: number, count: number, from: number): void {
    if (this.#isInPlace(array, count)) return
    const written = this.bytes.subarray(from, from + count * array.BYTES_PER_ELEMENT)
    bytesOf(array.subarray(start, start + count)).set(written)
  }

  #isInPlace(array: Float32Array | Uint16Array, count: number): boolean {
    return array.buffer === this.#memory && count % BLOCK === 0
  }

  #lend(bytes: number): number | null {
    const at = this.#free
    if (at + aligned(bytes) > this.#memory.byteLength) return null
    this.#free += aligned(bytes)
    return at
  }
}

/** Bytes that lending an array of `bytes` takes. */
export function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
}

/** Memory of `wanted` bytes, or of `least` where more than addresses reach is wanted, or the system has no such room. */
function openLargest(wanted: number, least: number): { kernels: Kernels; memory: ArrayBuffer } {
  if (wanted > MAX_MEMORY_BYTES) return openKernels(least)
  try {
    return openKernels(wanted)
  } catch (thrown) {
    if (thrown instanceof RangeError) return openKernels(least)
    throw thrown
  }
}

function bytesOf(array: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
}
