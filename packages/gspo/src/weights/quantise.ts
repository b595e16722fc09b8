/** Symmetric quantisation of matrices: 4 bits in blocks of a row, and 8 bits a row for the head of decoding. */

/** Codes and scales of some rows; a value is (code - 8) * scale. */
export interface QuantisedRows {
  /** Two codes a byte, the earlier in the low half, as ONNX Runtime's MatMulNBits wants them. */
  readonly codes: Uint8Array
  /** One for each block. */
  readonly scales: Float32Array
}

/** Codes of 4 bits below zero; there is one less above. */
const HALF_RANGE = 8

/** Largest code of 8 bits: the range is kept symmetric. */
const LARGEST_INT8 = 127

/**
 * Quantises values whose rows are whole blocks of `block` numbers to 4 bits. A block's extreme gets the code at the
 * far end of the longer, negative side and is exact; its scale is negative where the extreme is positive.
 */
export function quantiseRows(values: Float32Array, block: number): QuantisedRows {
  const scales = new Float32Array(values.length / block)
  const codes = new Uint8Array(values.length / 2)
  // Indexed loops without allocation: a 0.6B model has 14 million blocks.
  for (let index = 0; index < scales.length; index++) {
    const start = index * block
    let extreme = 0
    for (let i = start; i < start + block; i++)
      if (Math.abs(values[i]) > Math.abs(extreme)) extreme = values[i]
    const scale = Math.fround(extreme / -HALF_RANGE)
    scales[index] = scale
    const inverse = scale === 0 ? 0 : 1 / scale
    for (let i = start; i < start + block; i++) {
      const code = Math.min(Math.max(Math.round(values[i] * inverse) + HALF_RANGE, 0), 2 * HALF_RANGE - 1)
      codes[i >> 1] |= (i & 1) === 0 ? code : code << 4
    }
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

/**
 * Quantises `rows` rows of `columns` numbers to 8 bits with one scale a row, into columns `firstRow` and on of the
 * transposed matrix [columns, total] and of its scales [total].
 */
export function quantiseTransposed(
  values: Float32Array,
  columns: number,
  firstRow: number,
  into: { readonly codes: Int8Array; readonly scales: Float32Array },
): void {
  const { codes, scales } = into
  const total = scales.length
  const rows = values.length / columns
  for (let row = 0; row < rows; row++) {
    let largest = 0
    for (let i = row * columns; i < (row + 1) * columns; i++) largest = Math.max(largest, Math.abs(values[i]))
    scales[firstRow + row] = largest / LARGEST_INT8
  }
  // Column by column over a few rows at a time, so that writes stay close together.
  for (let column = 0; column < columns; column++)
    for (let row = 0; row < rows; row++) {
      const scale = scales[firstRow + row]
      codes[column * total + firstRow + row] =
        scale === 0 ? 0 : Math.round(values[row * columns + column] / scale)
    }
}

/** The values, row by row again, that `quantiseTransposed` made codes and scales of. */
export function dequantiseTransposed(codes: Int8Array, scales: Float32Array): Float32Array<ArrayBuffer> {
  const total = scales.length
  const columns = codes.length / total
  const values = new Float32Array(codes.length)
  for (let column = 0; column < columns; column++)
    for (let row = 0; row < total; row++)
      values[row * columns + column] = codes[column * total + row] * scales[row]
  return values
}
