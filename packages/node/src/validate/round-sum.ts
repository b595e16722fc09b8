/**
 * Did the ring apply what the workers signed? The weighted mean of all signed deltas of a round against the change of
 * the agreed adapter. It catches a worker that signs one delta and feeds the ring another vector; a replay alone cannot.
 * Pure.
 */

import { checked, short, unchecked, type CheckResult } from './checks.ts'
import { MAX_ROUND_SUM_ERROR } from './defaults.ts'

/** A contribution: the signed delta, null where it could not be had, and the weight that the ring counted. */
export interface SummedDelta {
  readonly workerId: string
  readonly weight: number
  readonly values: Float32Array | null
}

/** The check `round_sum`. `before` and `after` are the adapters that the ring agreed on; only for plain averaging. */
export function roundSumCheck(
  deltas: readonly SummedDelta[],
  before: Float32Array,
  after: Float32Array,
): CheckResult<'round_sum'> {
  const missing = deltas.filter(({ values }) => values?.length !== before.length)
  if (missing.length > 0) {
    const names = missing.map(({ workerId }) => workerId).join(', ')
    return unchecked('round_sum', `no delta that was committed to could be had from ${names}`)
  }
  const total = deltas.reduce((sum, { weight }) => sum + weight, 0)
  if (total === 0 || after.length !== before.length) return unchecked('round_sum', 'nothing was summed')
  let [error, squares] = [0, 0]
  for (let i = 0; i < before.length; i += 1) {
    let mean = 0
    for (const { weight, values } of deltas) mean += weight * (values?.[i] ?? 0)
    mean /= total
    error += ((after[i] ?? 0) - (before[i] ?? 0) - mean) ** 2
    squares += mean * mean
  }
  const relative = error === 0 ? 0 : Math.sqrt(error / Math.max(squares, Number.MIN_VALUE))
  const fault =
    `what the ring applied differs from the mean of the signed deltas by ${short(relative)} of its size, allowed ` +
    `${MAX_ROUND_SUM_ERROR}: somebody fed it another vector than it signed`
  const good = `the ring applied the mean of ${deltas.length} signed deltas to within ${short(relative)} of its size`
  return checked('round_sum', relative > MAX_ROUND_SUM_ERROR ? fault : null, good)
}
