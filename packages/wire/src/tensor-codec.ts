/** One tensor's float32 values to and from its packed bytes, for every dtype. Nothing non-finite passes in or out. */
import { endianness } from 'node:os'
import { packBitdelta, unpackBitdelta } from './bitdelta.ts'
import { packI8, unpackI8 } from './blockwise-i8.ts'
import type { DeltaDtype } from './delta-format.ts'
import { WireError } from './errors.ts'
import { fromBf16, fromF16, toBf16, toF16 } from './half-floats.ts'

/** Packed bytes of `values`. For f32 a view of `values` itself, not a copy. Throws `NON_FINITE`, also when f16 or bf16 overflow. */
export function packTensor(
  dtype: DeltaDtype,
  shape: readonly number[],
  values: Float32Array,
  name: string,
): Uint8Array {
  requireLittleEndian()
  requireFinite(values, name)
  switch (dtype) {
    case 'f32':
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    case 'f16': {
      const packed = toF16(values)
      requireFiniteHalves(packed, 0x7c00, name, dtype)
      return packed
    }
    case 'bf16': {
      const packed = toBf16(values)
      requireFiniteHalves(packed, 0x7f80, name, dtype)
      return packed
    }
    case 'i8':
      return packI8(values)
    case 'bitdelta':
      return packBitdelta(values, shape)
  }
}

/** float32 values in fresh memory; `packed` has exactly the length its layout says. Throws `NON_FINITE`, `BAD_DELTA`. */
export function unpackTensor(
  dtype: DeltaDtype,
  shape: readonly number[],
  elements: number,
  packed: Uint8Array,
  name: string,
): Float32Array {
  requireLittleEndian()
  const values = decode(dtype, shape, elements, packed)
  requireFinite(values, name)
  return values
}

function decode(
  dtype: DeltaDtype,
  shape: readonly number[],
  elements: number,
  packed: Uint8Array,
): Float32Array {
  switch (dtype) {
    case 'f32': {
      const values = new Float32Array(elements)
      new Uint8Array(values.buffer).set(packed)
      return values
    }
    case 'f16':
      return fromF16(aligned(packed, 2))
    case 'bf16':
      return fromBf16(aligned(packed, 2))
    case 'i8':
      return unpackI8(aligned(packed, 4), elements)
    case 'bitdelta':
      return unpackBitdelta(aligned(packed, 4), shape, elements)
  }
}

/** Typed-array views need aligned offsets; bytes from the middle of a file seldom have them. */
function aligned(bytes: Uint8Array, alignment: number): Uint8Array {
  return bytes.byteOffset % alignment === 0 ? bytes : new Uint8Array(bytes)
}

function requireFinite(values: Float32Array, name: string): void {
  // x * 0 is NaN exactly for NaN and infinity. Four sums let the loop run at memory speed (bench/delta.ts).
  let a = 0
  let b = 0
  let c = 0
  let d = 0
  const even = values.length & ~3
  for (let i = 0; i < even; i += 4) {
    a += values[i] * 0
    b += values[i + 1] * 0
    c += values[i + 2] * 0
    d += values[i + 3] * 0
  }
  for (let i = even; i < values.length; i++) a += values[i] * 0
  if (a + b + c + d === 0) return
  const index = values.findIndex((value) => !Number.isFinite(value))
  throw new WireError(
    'NON_FINITE',
    `tensor ${name} holds ${values[index]} at element ${index}, expected finite numbers`,
  )
}

function requireFiniteHalves(
  packed: Uint8Array,
  exponentMask: number,
  name: string,
  dtype: DeltaDtype,
): void {
  const halves = new Uint16Array(packed.buffer, packed.byteOffset, packed.length / 2)
  for (let i = 0; i < halves.length; i++) {
    if ((halves[i] & exponentMask) === exponentMask) {
      throw new WireError(
        'NON_FINITE',
        `tensor ${name}, element ${i}, is too large for ${dtype}: store it as f32`,
      )
    }
  }
}

function requireLittleEndian(): void {
  if (endianness() !== 'LE') throw new WireError('UNSUPPORTED', 'this code needs a little-endian machine')
}
