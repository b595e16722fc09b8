/**
 * How far a vector is from the nearest one that a writer would have stored as given values: zero exactly when rounding
 * it gives them. It lets two machines agree on a lossy file although their numbers differ in the last bits, without
 * allowing a cheat the whole rounding error. Pure.
 */
import { I8_BLOCK_ELEMENTS } from './defaults.ts'
import type { DeltaDtype } from './delta-format.ts'
import { WireError } from './errors.ts'
import { bitdeltaLayout } from './tensor-layout.ts'

/**
 * Sum of squares of the smallest known change to `values` after which `dtype` stores them as `stored` (both as float32,
 * of `shape`). An upper bound of the true distance, exact but for ties, and for the float32 rounding of scales.
 * Throws `BAD_ARGUMENT` on unequal lengths.
 */
export function squaredRoundingDistance(
  dtype: DeltaDtype,
  shape: readonly number[],
  values: Float32Array,
  stored: Float32Array,
): number {
  if (values.length !== stored.length) {
    throw new WireError('BAD_ARGUMENT', `${values.length} values beside ${stored.length} stored ones`)
  }
  switch (dtype) {
    case 'f32':
      return sumOfSquares(values.length, (i) => values[i] - stored[i])
    case 'f16':
      return halfDistance(values, stored, 10, -14)
    case 'bf16':
      return halfDistance(values, stored, 7, -126)
    case 'i8':
      return i8Distance(values, stored)
    case 'bitdelta':
      return bitdeltaDistance(shape, values, stored)
  }
}

function sumOfSquares(length: number, of: (index: number) => number): number {
  let sum = 0
  for (let i = 0; i < length; i++) sum += of(i) ** 2
  return sum
}

/** Each value may lie half a step from the stored one; a step is 2^(exponent - fraction bits). */
function halfDistance(
  values: Float32Array,
  stored: Float32Array,
  fractionBits: number,
  minExponent: number,
): number {
  return sumOfSquares(values.length, (i) => {
    const magnitude = Math.abs(stored[i])
    const exponent = magnitude === 0 ? minExponent : Math.max(minExponent, Math.floor(Math.log2(magnitude)))
    return Math.max(0, Math.abs(values[i] - stored[i]) - 2 ** (exponent - fractionBits - 1))
  })
}

/**
 * Each value may lie half a scale from the stored one, none beyond the largest, and one is the largest: the scale is
 * made from it.
 */
function i8Distance(values: Float32Array, stored: Float32Array): number {
  let sum = 0
  for (let start = 0; start < values.length; start += I8_BLOCK_ELEMENTS) {
    const end = Math.min(start + I8_BLOCK_ELEMENTS, values.length)
    let largest = 0
    for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(stored[i]))
    const half = largest / 254
    let nearestToLargest = Infinity
    for (let i = start; i < end; i++) {
      const magnitude = Math.abs(stored[i])
      const outward = (values[i] - stored[i]) * (stored[i] < 0 ? -1 : 1)
      const isLargest = magnitude > largest - half
      const beyond = isLargest && outward > 0 ? outward : Math.max(0, Math.abs(outward) - half)
      sum += beyond * beyond
      if (isLargest && outward <= 0) nearestToLargest = Math.min(nearestToLargest, -outward)
      else if (isLargest) nearestToLargest = 0
    }
    // Half a scale inward was allowed to all of the largest; one of them has to be the largest itself.
    if (nearestToLargest !== Infinity) sum += Math.min(nearestToLargest, half) ** 2
  }
  return sum
}

/** Signs must be the stored ones, and the mean magnitude under each scale must be that scale. */
function bitdeltaDistance(shape: readonly number[], values: Float32Array, stored: Float32Array): number {
  const { columns, rowsPerScale, scales } = bitdeltaLayout(shape, values.length)
  const group = rowsPerScale * columns
  let sum = 0
  for (let s = 0; s < scales; s++) {
    const start = s * group
    const end = Math.min(start + group, values.length)
    const scale = Math.abs(stored[start])
    let magnitudes = 0
    for (let i = start; i < end; i++) {
      const isUp = scale === 0 ? values[i] > 0 : stored[i] > 0
      if (values[i] > 0 === isUp) magnitudes += Math.abs(values[i])
      else sum += values[i] ** 2 // moved to zero, where either sign is a hair away
    }
    const count = end - start
    sum += count * (scale - magnitudes / count) ** 2
  }
  return sum
}
