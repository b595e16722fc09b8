/** Adds to numbers as safetensors store them (little-endian F32, F16, BF16), rounding once to nearest even. Pure. */

/// <reference lib="es2025.float16" />
import { NodeError } from '../errors.ts'

/** Floating types that model weights are stored in. */
export type StoredFloat = 'F32' | 'F16' | 'BF16'

const word = new Uint32Array(1)
const single = new Float32Array(word.buffer)

/** bfloat16 bits of a number, rounded to nearest even from float32 (as torch does); finite numbers only. */
export function toBf16(value: number): number {
  single[0] = value
  const bits = word[0] ?? 0
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

function fromBf16(bits: number): number {
  word[0] = bits << 16
  return single[0] ?? 0
}

function finite(value: number, name: string): number {
  if (Number.isFinite(value)) return value
  throw new NodeError(
    'BAD_ADAPTER',
    `merging ${name} gives ${value}: the model or the adapter is not finite, or overflows its type`,
  )
}

/** stored + addend as new bytes of the same type. Throws NodeError BAD_ADAPTER on overflow or non-finite numbers. */
export function addToStored(
  stored: Uint8Array,
  type: StoredFloat,
  addend: Float64Array,
  name: string,
): Uint8Array {
  const from = new DataView(stored.buffer, stored.byteOffset, stored.byteLength)
  const bytes = new Uint8Array(stored.length)
  const to = new DataView(bytes.buffer)
  for (let i = 0; i < addend.length; i += 1) {
    const extra = addend[i] ?? 0
    switch (type) {
      case 'F32': {
        to.setFloat32(4 * i, finite(Math.fround(from.getFloat32(4 * i, true) + extra), name), true)
        break
      }
      case 'F16': {
        to.setFloat16(2 * i, finite(Math.f16round(from.getFloat16(2 * i, true) + extra), name), true)
        break
      }
      case 'BF16': {
        const bits = toBf16(fromBf16(from.getUint16(2 * i, true)) + extra)
        finite(fromBf16(bits), name)
        to.setUint16(2 * i, bits, true)
        break
      }
    }
  }
  return bytes
}
