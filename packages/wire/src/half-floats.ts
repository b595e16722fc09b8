/** 16-bit floats: IEEE 754 binary16 and bfloat16, both rounded to nearest, ties to even. */
/// <reference lib="es2025.float16" />

/** binary16 bit patterns, little-endian. A magnitude of 65520 or more becomes infinity: the caller must look. */
export function toF16(values: Float32Array): Uint8Array {
  return new Uint8Array(new Float16Array(values).buffer)
}

/** float32 values of binary16 patterns; `bytes` must start at an even offset of its buffer. */
export function fromF16(bytes: Uint8Array): Float32Array {
  return new Float32Array(new Float16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2))
}

/** bfloat16 bit patterns: the upper half of each float32, rounded. Finite values near the top may round to infinity. */
export function toBf16(values: Float32Array): Uint8Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const out = new Uint16Array(values.length)
  for (let i = 0; i < out.length; i++) {
    const u = bits[i]
    // Adding half a unit less one, plus the kept part's last bit, carries exactly when rounding up is due.
    out[i] = (u + 0x7fff + ((u >>> 16) & 1)) >>> 16
  }
  return new Uint8Array(out.buffer)
}

/** float32 values of bfloat16 patterns; `bytes` must start at an even offset of its buffer. */
export function fromBf16(bytes: Uint8Array): Float32Array {
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)
  const out = new Uint32Array(halves.length)
  for (let i = 0; i < out.length; i++) out[i] = halves[i] << 16
  return new Float32Array(out.buffer)
}
