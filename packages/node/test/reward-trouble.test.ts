/** What the operator reads of rewards that failed. Expected lines are written by hand. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { StepRecord, StepStats } from '@gym-node/gspo'
import { rewardTrouble } from '../src/local-steps.ts'

function record(rewardFailures: StepRecord['rewardFailures'], unscorable: number): StepRecord {
  const stats = { step: 12, unscorable } as StepStats
  return { stats, trace: { step: 12, seed: 0, groups: [] }, rewardFailures, samples: [] }
}

it('a step without failures says nothing', () => {
  assert.deepEqual(rewardTrouble(record([], 3)), [])
})

it('each failing reward has one line with its first place and reason, and how many more', () => {
  const failed = (reward: string, completion: number, message: string) => ({
    dataPosition: 40,
    completion,
    reward,
    message,
  })
  assert.deepEqual(
    rewardTrouble(
      record(
        [
          failed('judge.ts', 2, 'no answer within 60000 ms'),
          failed('regex', 3, 'slow'),
          failed('judge.ts', 4, 'x'),
        ],
        3,
      ),
    ),
    [
      'step 12: reward judge.ts gave no score at data position 40, completion 2: no answer within 60000 ms (and 1 more; 3 unscorable in all)',
      'step 12: reward regex gave no score at data position 40, completion 3: slow',
    ],
  )
})
