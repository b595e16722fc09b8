/**
 * The arithmetic of one chunk: weigh, add, divide, and put into the wire's number format and back, in one pass over what
 * is read and written. `f32` is exact; `bf16` keeps 8 bits of precision (round to nearest even); `int8` keeps a
 * power-of-two scale per block of 256 values. Encoding what was decoded gives the same bytes, so what a segment's owner
 * sends is what every member ends with. bench/all-reduce.ts is the benchmark behind its shape.
 */
import type { WireType } from '../types.ts'
import { BLOCK, encodedBytes, type ChunkMemory } from './chunk-memory.ts'
import type { LentFrame } from './frame-slots.ts'

/** What this node adds to a chunk. All arrays are as long as the chunk. */
export interface Part {
  readonly own: Float32Array
  readonly weight: number
  /** `int8`: added to the weighted values, in bf16; null for nothing */
  readonly residual: Uint16Array | null
  /** `int8`: where what rounding loses goes, in bf16; null where it is not kept */
  readonly kept: Uint16Array | null
}

/** What a sum is divided by, or multiplied with; and where the mean goes. */
interface Mean {
  readonly total: number
  readonly by: number
  readonly result: Float32Array
}

type Kind = 'send' | 'pass' | 'product' | 'quotient'

/** The name of the kernel that does each. */
const NAMES = {
  f32: { send: 'sendF32', pass: 'passF32', product: 'productF32', quotient: 'quotientF32' },
  bf16: { send: 'sendBf16', pass: 'passBf16', product: 'productBf16', quotient: 'quotientBf16' },
  int8: { send: 'sendInt8', pass: 'passInt8', product: 'productInt8', quotient: 'quotientInt8' },
} as const

/**
 * Works in the scratch of `memory`. Wire bytes that a method returns are valid until the next call, or as long as the
 * frame around them is lent.
 */
export class ChunkMath {
  readonly wire: WireType
  readonly #memory: ChunkMemory

  constructor(wire: WireType, memory: ChunkMemory) {
    this.wire = wire
    this.#memory = memory
  }

  /** Where wire bytes that come are worked on without a copy, until the next call of any other method. */
  room(bytes: number): Uint8Array {
    this.#memory.slots.begin()
    return this.#memory.bytes.subarray(this.#came, this.#came + bytes)
  }

  /** The frame around wire bytes that a method has just returned; null where they must be sealed elsewhere. */
  lend(bytes: Uint8Array): LentFrame | null {
    return this.#memory.slots.lend(bytes)
  }

  /** own * weight (+ residual) as wire bytes. */
  send(part: Part): Uint8Array {
    this.#memory.slots.begin()
    return this.#sum('send', part, null)
  }

  /** What `payload` encodes + own * weight (+ residual), each operation rounded to float32, as wire bytes. */
  pass(part: Part, payload: Uint8Array): Uint8Array {
    this.#take(payload, part.own.length)
    return this.#sum('pass', part, null)
  }

  /**
   * The same divided by `total`, as wire bytes; what they stand for goes to `result`. What rounding loses is kept times
   * `total`. Zeros when it is zero, because a mean of nothing changes nothing.
   */
  finish(part: Part, payload: Uint8Array, total: number, result: Float32Array): Uint8Array {
    if (total === 0) {
      result.fill(0)
      part.kept?.fill(0)
      return this.encode(result)
    }
    this.#take(payload, part.own.length)
    const divisor = Math.fround(total)
    // By a power of two both give the same bits, and a product is several times faster.
    if (isPowerOfTwo(divisor)) return this.#sum('product', part, { total, by: 1 / divisor, result })
    return this.#sum('quotient', part, { total, by: divisor, result })
  }

  /** result = what `payload` encodes. */
  decode(payload: Uint8Array, result: Float32Array): void {
    const { kernels, scratch } = this.#memory
    if (this.wire === 'f32') {
      if (!isSame(payload, result)) bytesOf(result).set(payload)
      return
    }
    this.#take(payload, result.length)
    const came = this.#came
    const codes = came + headBytes(result.length)
    inParts(result.length, (start, count) => {
      const to = this.#memory.write(result, start, count, scratch.result)
      if (this.wire === 'bf16') kernels.decodeBf16(to, came + start * 2, toSixteens(count))
      else kernels.decodeInt8(to, came + start / 64, codes + start, Math.ceil(count / BLOCK))
      this.#memory.settle(result, start, count, to)
    })
  }

  /** `values` as wire bytes. */
  encode(values: Float32Array): Uint8Array {
    if (this.wire === 'f32') return bytesOf(values)
    return this.send({ own: values, weight: 1, residual: null, kept: null })
  }

  #sum(kind: Kind, part: Part, mean: Mean | null): Uint8Array {
    const { length } = part.own
    inParts(length, (start, count) => {
      switch (this.wire) {
        case 'f32':
          this.#sumF32(kind, part, mean, start, count)
          break
        case 'bf16':
          this.#sumBf16(kind, part, mean, start, count)
          break
        case 'int8':
          this.#sumInt8(kind, part, mean, start, count)
          break
      }
    })
    // In f32 a mean is its own wire bytes.
    if (this.wire === 'f32' && mean !== null) return bytesOf(mean.result)
    return this.#memory.bytes.subarray(this.#code, this.#code + encodedBytes(this.wire, length))
  }

  #sumF32(kind: Kind, { own, weight }: Part, mean: Mean | null, start: number, count: number): void {
    const { kernels, scratch } = this.#memory
    const at = this.#memory.read(own, start, count, scratch.own)
    const came = this.#came + start * 4
    const to =
      mean === null ? this.#code + start * 4 : this.#memory.write(mean.result, start, count, scratch.result)
    kernels[NAMES.f32[kind]](at, weight, to, toSixteens(count), came, 0, mean?.by ?? 0)
    if (mean !== null) this.#memory.settle(mean.result, start, count, to)
  }

  #sumBf16(kind: Kind, { own, weight }: Part, mean: Mean | null, start: number, count: number): void {
    const { kernels, scratch } = this.#memory
    const at = this.#memory.read(own, start, count, scratch.own)
    const code = this.#code + start * 2
    const came = this.#came + start * 2
    const to = mean === null ? 0 : this.#memory.write(mean.result, start, count, scratch.result)
    const all = toSixteens(count)
    const by = mean?.by ?? 0
    const hasNaN = kernels[NAMES.bf16[kind]](at, weight, code, all, came, to, by) !== 0
    if (hasNaN) kernels[`${NAMES.bf16[kind]}Careful`](at, weight, code, all, came, to, by)
    if (mean !== null) this.#memory.settle(mean.result, start, count, to)
  }

  #sumInt8(kind: Kind, part: Part, mean: Mean | null, start: number, count: number): void {
    const { kernels, scratch } = this.#memory
    const { own, weight, residual, kept } = part
    const heads = headBytes(own.length)
    const at = this.#memory.read(own, start, count, scratch.own)
    const rest =
      residual === null ? scratch.noResidual : this.#memory.read(residual, start, count, scratch.residual)
    const lost = kept === null ? scratch.kept : this.#memory.write(kept, start, count, scratch.kept)
    const to = mean === null ? 0 : this.#memory.write(mean.result, start, count, scratch.result)
    kernels[NAMES.int8[kind]](
      at,
      weight,
      rest,
      lost,
      mean?.total ?? 1,
      this.#code + start / 64,
      this.#code + heads + start,
      Math.ceil(count / BLOCK),
      this.#came + start / 64,
      this.#came + heads + start,
      to,
      mean?.by ?? 0,
    )
    if (kept !== null) this.#memory.settle(kept, start, count, lost)
    if (mean !== null) this.#memory.settle(mean.result, start, count, to)
  }

  /** Puts what came where kernels read it; zeros behind it, which must not raise the last block's scale. */
  #take(payload: Uint8Array, count: number): void {
    const { bytes, slots } = this.#memory
    if (!isSame(payload, bytes.subarray(this.#came))) {
      slots.begin()
      bytes.set(payload, this.#came)
    }
    const rest = count % BLOCK
    const end = this.#came + payload.byteLength
    if (rest > 0) bytes.fill(0, end, end + encodedBytes(this.wire, BLOCK - rest))
  }

  /** Address of the wire bytes that go. */
  get #code(): number {
    return this.#memory.slots.at
  }

  /** Of those that came: the same, except in `bf16`, whose sums may have to be done again. */
  get #came(): number {
    return this.wire === 'bf16' ? this.#memory.scratch.came : this.#code
  }
}

/** Whole blocks first, then what is left. */
function inParts(length: number, run: (start: number, count: number) => void): void {
  const rest = length % BLOCK
  if (length > rest) run(0, length - rest)
  if (rest > 0) run(length - rest, rest)
}

/** `int8`: bytes of the scales before the codes. */
function headBytes(count: number): number {
  return Math.ceil(count / BLOCK) * 4
}

/** Kernels of floats take sixteen values at a time; scratch has room for it. */
function toSixteens(count: number): number {
  return (count + 15) & ~15
}

function isPowerOfTwo(value: number): boolean {
  const [bits] = new Uint32Array(Float32Array.of(value).buffer)
  // Powers whose inverse is a normal number too: no fraction, exponent from 2^-126 to 2^126.
  return (bits & 0x7fffff) === 0 && bits >>> 23 > 0 && bits >>> 23 < 254
}

/** Whether both begin at one place. */
function isSame(a: Uint8Array, b: Uint8Array | Float32Array): boolean {
  return a.buffer === b.buffer && a.byteOffset === b.byteOffset
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
