/** A daemon's whole life made up from a seed, for the page's tests: history to look at, and a status to show. */
import { join } from 'node:path'
import { HISTORY_LIMITS } from '../src/observe/defaults.ts'
import { HistoryStore, type TimedEvent } from '../src/observe/history-store.ts'
import type { DaemonEvent } from '../src/status.ts'
import { fakePeerId, roundStatus, seededRandom, stepStats } from './observe-fixtures.ts'

/** Prompts and completions as the demo's arithmetic task has them; the third is hostile markup. */
export const SAMPLES: readonly { prompt: string; completion: string; reward: number }[] = [
  {
    prompt: 'What is 48 + 37? Think, then answer in \\boxed{}.',
    completion: '48 + 37 = 40 + 30 + 8 + 7 = 70 + 15 = 85. The answer is \\boxed{85}.',
    reward: 1,
  },
  {
    prompt: 'What is 93 - 58? Think, then answer in \\boxed{}.',
    completion: '93 - 58: 93 - 50 = 43, 43 - 8 = 35. \\boxed{35}',
    reward: 1,
  },
  {
    prompt: 'What is 7 * 8?',
    completion: '<img src=x onerror="document.body.remove()"><script>document.title="owned"</script>',
    reward: 0,
  },
  {
    prompt: 'What is 12 * 11? Think, then answer in \\boxed{}.',
    completion: '12 * 11 = 12 * 10 + 12 = 120 + 12 = 132, so \\boxed{132}.',
    reward: 1,
  },
  {
    prompt: 'What is 64 / 16? Think, then answer in \\boxed{}.',
    completion:
      'Half of 64 is 32, half again 16, and 16 / 4 = 8? Let me check: 16 * 4 = 64. I wrote 8 first, which is wrong.',
    reward: 0.25,
  },
]

/** Writes a history of `steps` steps (a round every four) that ends at `now`. */
export function writeDemoHistory(stateDir: string, job: string, steps: number, now: number): void {
  const store = HistoryStore.open(join(stateDir, 'history.sqlite'), job, HISTORY_LIMITS, () => {
    throw new Error('a fresh history file cannot be bad')
  })
  const random = seededRandom(7)
  const batch: TimedEvent[] = []
  for (let step = 1; step <= steps; step++) {
    const at = now - (steps - step) * 3_700
    batch.push({ at, event: { type: 'step', round: Math.ceil(step / 4), stats: stepStats(step, random) } })
    if (step % 4 === 0) batch.push({ at, event: { type: 'round', round: roundStatus(step / 4, random) } })
    if (batch.length >= 5_000) store.append(batch.splice(0))
  }
  const lastRound = Math.floor(steps / 4)
  for (let i = 29; i >= 0; i--) {
    batch.push({ at: now - i * 14_800, event: deltaEvent(lastRound - i, random, i === 11) })
  }
  SAMPLES.forEach((sample, i) => {
    batch.push({ at: now - 9_000, event: { type: 'rollout', step: steps - 1 + (i > 2 ? 1 : 0), ...sample } })
  })
  for (const [ago, event] of LOG) batch.push({ at: now - ago * 1000, event })
  store.append(batch)
  store.close()
}

const LOG: readonly [number, DaemonEvent][] = [
  [5400, { type: 'state', state: 'starting', reason: 'loading Qwen3ForCausalLM, 1.2 M parameters' }],
  [5395, { type: 'state', state: 'waiting_for_peers', reason: '1 of 2 members are here' }],
  [5380, { type: 'view', epoch: 1, members: [0, 1].map(fakePeerId) }],
  [5379, { type: 'state', state: 'training', reason: 'the view has 2 members' }],
  [3100, { type: 'view', epoch: 2, members: [0, 1, 2].map(fakePeerId) }],
  [
    1260,
    { type: 'error', code: 'PEER_LOST', message: `no chunk from ${fakePeerId(2)} for 5.0 s in round 268` },
  ],
  [1259, { type: 'view', epoch: 3, members: [0, 1].map(fakePeerId) }],
  [840, { type: 'view', epoch: 4, members: [0, 1, 2].map(fakePeerId) }],
  [839, { type: 'state', state: 'training', reason: 'the view has 3 members' }],
]

function deltaEvent(round: number, random: () => number, isBroken: boolean): DaemonEvent {
  const hash = Array.from({ length: 64 }, () => Math.floor(random() * 16).toString(16)).join('')
  return {
    type: 'delta',
    round,
    file: `deltas/round-${round}.delta`,
    bytes: 262_144 + Math.floor(random() * 4000),
    sha3_256: hash,
    verified: !isBroken,
    dtype: 'f32',
    relative_error: 0,
  }
}
