/** The reward of the speed test: the share of a completion's words that are digit strings, as a reward to climb. */
import type { RewardSample } from '../rewards/types.ts'

/** Between 0 and 1. */
export default function digitShare({ completion }: RewardSample): number {
  const words = completion.split(/\s+/).filter((word) => word !== '')
  return words.filter((word) => /^\d+$/.test(word)).length / Math.max(1, words.length)
}
