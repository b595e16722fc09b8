/** The arithmetic of a round on float32 arrays: pure, in a fixed order, so that every node gets the same bits. */

/** target[i] = vector[i] * weight for the elements from `start` on, as many as target has. */
export function scaleInto(target: Float32Array, vector: Float32Array, start: number, weight: number): void {
  const factor = Math.fround(weight)
  for (let i = 0; i < target.length; i++) target[i] = vector[start + i] * factor
}

/** sum[i] = partial[i] + vector[start + i] * weight, each product and sum rounded to float32. */
export function addScaled(
  sum: Float32Array,
  partial: Float32Array,
  vector: Float32Array,
  start: number,
  weight: number,
): void {
  const factor = Math.fround(weight)
  for (let i = 0; i < sum.length; i++) {
    sum[i] = partial[i] + Math.fround(vector[start + i] * factor)
  }
}

/** target[i] += vector[start + i]. */
export function addVector(target: Float32Array, vector: Float32Array, start: number): void {
  for (let i = 0; i < target.length; i++) target[i] = target[i] + vector[start + i]
}

/** values[i] /= total; zeros when total is zero, because a mean of nothing changes nothing. */
export function divide(values: Float32Array, total: number): void {
  if (total === 0) {
    values.fill(0)
    return
  }
  const divisor = Math.fround(total)
  for (let i = 0; i < values.length; i++) values[i] = values[i] / divisor
}

/** The sum of weights in ring order in double precision: the same number on every member. */
export function totalWeight(weights: readonly number[]): number {
  let total = 0
  for (const weight of weights) total += weight
  return total
}
