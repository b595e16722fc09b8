/** The quality check on delta files as they came from workers: statistics over the round, and the held-out set. */

import { spawnTrainer, type GSPOConfig, type Trainer } from '@gym-node/gspo'
import { flatten, layoutDifference, type Adapter } from '../delta-tools/adapter.ts'
import { unchecked, type CheckResult } from './checks.ts'
import { readFetchedDelta } from './fetched-delta.ts'
import { judgeRound, tryDeltas, type RoundDelta } from './quality.ts'
import type { QualityConfig } from './quality-config.ts'
import type { Span } from './quality-statistics.ts'
import { readBaseState } from './replay-files.ts'

/** Where deltas are tried on a held-out set. */
export interface HeldOutTrial {
  /** Trainer state at the round's start. */
  readonly base: Uint8Array
  readonly dataset: string
  readonly train: GSPOConfig
  readonly openTrainer: ((config: GSPOConfig) => Promise<Trainer>) | undefined
}

function spansOf({ matrices }: Adapter): Span[] {
  let offset = 0
  return matrices.map(({ name, values }) => {
    offset += values.length
    return { name, offset: offset - values.length, length: values.length }
  })
}

/**
 * Judges one worker's delta beside the others of the round that have its layout; with a trial also by the held-out set.
 * There is no common order of arrival, so it counts as the last: of two equal deltas each is called a copy, and the
 * replay tells whose it is.
 */
export async function judgeFetched(
  workerId: string,
  deltas: ReadonlyMap<string, Uint8Array>,
  config: QualityConfig,
  trial: HeldOutTrial | null,
  signal: AbortSignal,
): Promise<CheckResult[]> {
  const bytes = deltas.get(workerId)
  const own = bytes === undefined ? null : ((await readFetchedDelta(bytes))?.adapter ?? null)
  if (own === null) return [unchecked('quality', 'the delta cannot be read')]
  const round: RoundDelta[] = []
  for (const [other, file] of deltas) {
    const adapter = other === workerId ? null : ((await readFetchedDelta(file))?.adapter ?? null)
    if (adapter !== null && layoutDifference(own, adapter) === null) {
      round.push({ workerId: other, values: flatten(adapter) })
    }
  }
  round.push({ workerId, values: flatten(own) })
  const verdict = judgeRound(round, spansOf(own), config).at(-1)
  const checks: CheckResult[] = [...(verdict?.checks ?? [])]
  if (trial === null) return checks
  const trainer = await (trial.openTrainer ?? spawnTrainer)(trial.train)
  try {
    const baseAdapter = readBaseState(trial.base).adapter
    const delta = { workerId, values: flatten(own) }
    const { dataset } = trial
    return [...checks, ...(await tryDeltas([delta], { trainer, baseAdapter, dataset, signal }, config))]
  } finally {
    await trainer.close()
  }
}
