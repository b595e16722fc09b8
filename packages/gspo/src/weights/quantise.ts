/** Symmetric quantisation of matrices in blocks of a row: 4 bits, and 8 bits for the head of decoding. */

/** Codes and scales of some rows; a value of 4 bits is (code - 8) * scale. */
export interface QuantisedRows {
  /** Of 4 bits two a byte, the earlier in the low half, as ONNX Runtime's MatMulNBits wants them. */
  readonly codes: Uint8Array
  /** One for each block. */
  readonly scales: Float32Array
}

/** Codes of 4 bits below zero; there is one less above. */
const HALF_RANGE = 8

/** Largest distance of an 8-bit code from that of zero: the range is kept symmetric. */
const LARGEST_INT8 = 127

/** The code of zero in 8 bits. */
const HALF_BYTE = 128

/** Scales that are tried, as shares of the plain one: they lower the error of normal weights by 5 % at blocks of 128. */
const SCALE_FACTORS = [1, 0.9, 0.8]

/**
 * Quantises values whose rows are whole blocks of `block` numbers to 4 bits. With the plain scale a block's extreme
 * gets the code at the far end of the longer, negative side and is exact (the scale is negative where the extreme is
 * positive); a smaller scale that cuts the extreme and serves the rest better is taken where the squared error says so.
 */
export function quantiseRows(values: Float32Array, block: number): QuantisedRows {
  const scales = new Float32Array(values.length / block)
  const codes = new Uint8Array(values.length / 2)
  // Indexed loops without allocation: a 0.6B model has 440 million such numbers.
  for (let index = 0; index < scales.length; index++) {
    const start = index * block
    const end = start + block
    const scale = bestScale(values, start, end)
    scales[index] = scale
    const inverse = scale === 0 ? 0 : 1 / scale
    for (let i = start; i < end; i++) {
      const code = nearestCode(values[i] * inverse) + HALF_RANGE
      codes[i >> 1] |= (i & 1) === 0 ? code : code << 4
    }
  }
  return { codes, scales }
}

function bestScale(values: Float32Array, start: number, end: number): number {
  let extreme = 0
  for (let i = start; i < end; i++) if (Math.abs(values[i]) > Math.abs(extreme)) extreme = values[i]
  if (extreme === 0) return 0
  let best = 0
  let least = Infinity
  for (const shrink of SCALE_FACTORS) {
    const scale = Math.fround((extreme * shrink) / -HALF_RANGE)
    const inverse = 1 / scale
    let error = 0
    for (let i = start; i < end; i++) {
      const off = values[i] - nearestCode(values[i] * inverse) * scale
      error += off * off
    }
    if (error < least) {
      least = error
      best = scale
    }
  }
  return best
}

/** The code, around 0, of a value in units of the scale. */
function nearestCode(value: number): number {
  const code = Math.round(value)
  return code < -HALF_RANGE ? -HALF_RANGE : code > HALF_RANGE - 1 ? HALF_RANGE - 1 : code
}

/**
 * Quantises values whose rows are whole blocks of `block` numbers to 8 bits: a value is (code - 128) * scale. The range
 * is kept symmetric, so that code 0 never occurs.
 */
export function quantiseBytes(values: Float32Array, block: number): QuantisedRows {
  const scales = new Float32Array(values.length / block)
  const codes = new Uint8Array(values.length)
  for (let index = 0; index < scales.length; index++) {
    const start = index * block
    let largest = 0
    for (let i = start; i < start + block; i++) largest = Math.max(largest, Math.abs(values[i]))
    const scale = Math.fround(largest / LARGEST_INT8)
    scales[index] = scale
    const inverse = scale === 0 ? 0 : 1 / scale
    for (let i = start; i < start + block; i++) codes[i] = Math.round(values[i] * inverse) + HALF_BYTE
  }
  return { codes, scales }
}

/** The values that codes and scales stand for. */
export function dequantiseRows({ codes, scales }: QuantisedRows, block: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(scales.length * block)
  for (let index = 0; index < scales.length; index++) {
    const scale = scales[index]
    for (let i = index * block; i < (index + 1) * block; i++)
      values[i] = (((codes[i >> 1] >> (4 * (i & 1))) & 15) - HALF_RANGE) * scale
  }
  return values
}

/** The values that `quantiseBytes` made codes and scales of, nearly. */
export function dequantiseBytes({ codes, scales }: QuantisedRows, block: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(codes.length)
  for (let i = 0; i < codes.length; i++) values[i] = (codes[i] - HALF_BYTE) * scales[Math.floor(i / block)]
  return values
}
