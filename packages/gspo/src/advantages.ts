/**
 * Group-relative advantages (GSPO, arXiv 2507.18071, section 4.1; the details follow TRL 1.13): the reward minus the
 * group's mean, scaled by a standard deviation with Bessel's correction. An unscorable completion (NaN) is left out of
 * both and gets advantage 0.
 */

/** What the centred reward is divided by: the group's deviation, the whole batch's, or nothing. */
export type ScaleRewards = 'group' | 'batch' | 'none'

/** Added to the deviation, so that a group of nearly equal rewards does not explode; TRL's value. */
const DEVIATION_FLOOR = 1e-4

/** Advantages of a batch and what its statistics need. */
export interface Advantages {
  /** One number a completion, in the order of the rewards. */
  readonly values: Float32Array
  /** Mean of each group's scorable rewards; NaN where a group has none. */
  readonly groupMeans: number[]
  /** Deviation (n - 1) of each group's scorable rewards; NaN where fewer than two are scorable. */
  readonly groupDeviations: number[]
}

/**
 * Mean (NaN of none) and deviation (n - 1; NaN of fewer than two) of the numbers that are not NaN. A mean
 * lies between the smallest and the largest, so that of equal numbers it is that number and the deviation 0 exactly:
 * a third of 0.1 + 0.1 + 0.1 is more than 0.1 in binary.
 */
export function momentsOf(
  values: ArrayLike<number>,
  from = 0,
  to = values.length,
): { mean: number; deviation: number } {
  let count = 0
  let sum = 0
  let smallest = Infinity
  let largest = -Infinity
  for (let i = from; i < to; i++) {
    const value = values[i] ?? NaN
    if (Number.isNaN(value)) continue
    sum += value
    smallest = Math.min(smallest, value)
    largest = Math.max(largest, value)
    count++
  }
  const mean = count === 0 ? NaN : Math.min(Math.max(sum / count, smallest), largest)
  let squares = 0
  for (let i = from; i < to; i++) {
    const value = values[i] ?? NaN
    if (!Number.isNaN(value)) squares += (value - mean) ** 2
  }
  return { mean, deviation: count < 2 ? NaN : Math.sqrt(squares / (count - 1)) }
}

/**
 * Advantages of completions that lie group after group, `groupSize` each.
 * @param rewards   one weighted reward a completion; NaN marks an unscorable one
 * @param groupSize completions of one prompt; divides rewards.length
 * @param scale     which deviation divides
 */
export function computeAdvantages(
  rewards: ArrayLike<number>,
  groupSize: number,
  scale: ScaleRewards,
): Advantages {
  const values = new Float32Array(rewards.length)
  const groupMeans: number[] = []
  const groupDeviations: number[] = []
  const batchDeviation = scale === 'batch' ? momentsOf(rewards).deviation : 0
  for (let start = 0; start < rewards.length; start += groupSize) {
    const { mean, deviation } = momentsOf(rewards, start, start + groupSize)
    groupMeans.push(mean)
    groupDeviations.push(deviation)
    const divisor = divisorOf(scale, deviation || 0, batchDeviation || 0)
    for (let i = start; i < start + groupSize; i++) {
      const reward = rewards[i] ?? NaN
      values[i] = Number.isNaN(reward) ? 0 : (reward - mean) / divisor
    }
  }
  return { values, groupMeans, groupDeviations }
}

function divisorOf(scale: ScaleRewards, groupDeviation: number, batchDeviation: number): number {
  switch (scale) {
    case 'group':
      return groupDeviation + DEVIATION_FLOOR
    case 'batch':
      return batchDeviation + DEVIATION_FLOOR
    case 'none':
      return 1
  }
}
