/** How many elements a shape has and how many bytes they take: pure functions of dtype and shape, so no length can lie. */
import { BITDELTA_MIN_SCALE_ELEMENTS, I8_BLOCK_ELEMENTS } from './defaults.ts'
import type { DeltaDtype } from './delta-format.ts'
import { DELTA_MAX_RANK } from './delta-format.ts'
import { WireError } from './errors.ts'

/** Product of the dimensions; 1 for rank 0. Throws `BAD_DELTA` on a bad dimension, `LIMIT_EXCEEDED` over `maxElements`. */
export function elementCount(shape: readonly number[], maxElements: number): number {
  if (shape.length > DELTA_MAX_RANK) {
    throw new WireError('BAD_DELTA', `rank is ${shape.length}, limit ${DELTA_MAX_RANK}`)
  }
  for (const dimension of shape) {
    if (!Number.isSafeInteger(dimension) || dimension < 0) {
      throw new WireError('BAD_DELTA', `dimension is ${dimension}, expected an integer from 0 to 2^53-1`)
    }
  }
  if (shape.includes(0)) return 0
  let count = 1
  for (const dimension of shape) {
    count *= dimension
    if (count > maxElements) {
      throw new WireError(
        'LIMIT_EXCEEDED',
        `shape [${shape.slice(0, 8).join(', ')}] has over ${maxElements} elements`,
      )
    }
  }
  return count
}

/** Rows and columns of a bitdelta tensor: the last dimension is the columns, all others the rows. */
export interface BitdeltaLayout {
  readonly rows: number
  readonly columns: number
  /** Consecutive rows that share a scale: as few as cover 256 elements, so that narrow matrices stay small too. */
  readonly rowsPerScale: number
  readonly scales: number
}

/** Bitdelta's layout of a shape. An empty tensor has no scales. */
export function bitdeltaLayout(shape: readonly number[], elements: number): BitdeltaLayout {
  if (elements === 0) return { rows: 0, columns: 0, rowsPerScale: 1, scales: 0 }
  const columns = shape.at(-1) ?? 1
  const rows = elements / columns
  const rowsPerScale = Math.ceil(BITDELTA_MIN_SCALE_ELEMENTS / columns)
  return { rows, columns, rowsPerScale, scales: Math.ceil(rows / rowsPerScale) }
}

/** Bytes of the tensor's data before compression. */
export function packedBytes(dtype: DeltaDtype, shape: readonly number[], elements: number): number {
  switch (dtype) {
    case 'f32':
      return 4 * elements
    case 'f16':
    case 'bf16':
      return 2 * elements
    case 'i8':
      return 4 * Math.ceil(elements / I8_BLOCK_ELEMENTS) + elements
    case 'bitdelta':
      return 4 * bitdeltaLayout(shape, elements).scales + Math.ceil(elements / 8)
  }
}
