/** The wire's number formats in plain TypeScript, element by element: what the kernels are checked against. */

const BLOCK = 256
const scratch = new DataView(new ArrayBuffer(4))

export function bitsOf(value: number): number {
  scratch.setFloat32(0, value)
  return scratch.getUint32(0)
}

export function floatOf(bits: number): number {
  scratch.setUint32(0, bits)
  return scratch.getFloat32(0)
}

/** The upper half of a float32, to nearest even; a NaN stays one. */
export function toBf16(value: number): number {
  const bits = bitsOf(value)
  if (Number.isNaN(value)) return (bits >>> 16) | 0x40
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

export function fromBf16(half: number): number {
  return floatOf((half << 16) >>> 0)
}

/** The smallest power of two that brings `largest` to 127 or under, by search instead of by bits. */
export function scaleFor(largest: number): number {
  if (!(largest < Infinity)) return NaN
  if (largest <= 2 ** -127) return 0
  let exponent = -126
  while (largest / 2 ** exponent > 127) exponent += 1
  return 2 ** exponent
}

/** Scales (float32) first, then one signed byte a value. */
export function encodeInt8(values: Float32Array): Uint8Array {
  const blocks = Math.ceil(values.length / BLOCK)
  const out = new DataView(new ArrayBuffer(blocks * 4 + values.length))
  for (let block = 0; block < blocks; block++) {
    const part = values.subarray(block * BLOCK, (block + 1) * BLOCK)
    const scale = scaleFor(part.reduce((most, x) => Math.max(most, Math.abs(x)), 0))
    if (Number.isNaN(scale)) out.setUint32(block * 4, 0x7fc00000, true)
    else out.setFloat32(block * 4, scale, true)
    part.forEach((x, i) => out.setInt8(blocks * 4 + block * BLOCK + i, scale > 0 ? roundEven(x / scale) : 0))
  }
  return new Uint8Array(out.buffer)
}

export function decodeInt8(bytes: Uint8Array, count: number): Float32Array {
  const blocks = Math.ceil(count / BLOCK)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Float32Array.from({ length: count }, (_, i) => {
    return view.getInt8(blocks * 4 + i) * view.getFloat32(Math.floor(i / BLOCK) * 4, true)
  })
}

function roundEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}
