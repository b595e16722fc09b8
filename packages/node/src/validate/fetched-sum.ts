/** The check `round_sum` on files as they came from workers: nothing counts that does not carry the agreed hashes. */

import { GspoError } from '@gym-node/gspo'
import { adapterSha3, flatten } from '../delta-tools/adapter.ts'
import { unchecked, type CheckResult } from './checks.ts'
import { readFetchedDelta } from './fetched-delta.ts'
import { readBaseState } from './replay-files.ts'
import type { RoundRecord } from './round-records.ts'
import { roundSumCheck, type SummedDelta } from './round-sum.ts'

/** The adapter in a trainer state when it is the agreed one, else null. */
function adapterWith(state: Uint8Array | null, wanted: string): Float32Array | null {
  if (state === null) return null
  try {
    const { adapter } = readBaseState(state)
    return adapterSha3(adapter) === wanted ? adapter : null
  } catch (error) {
    if (error instanceof GspoError) return null // no trainer state: another worker may have one
    throw error
  }
}

/** The committed delta's numbers, or null. */
async function committed(
  bytes: Uint8Array | undefined,
  { peer_id: peerId, commitment }: RoundRecord['contributions'][number],
): Promise<Float32Array | null> {
  const delta = bytes === undefined ? null : await readFetchedDelta(bytes)
  if (delta === null || delta.workerId !== peerId) return null
  if (commitment !== null && commitment !== delta.bodySha3) return null
  return flatten(delta.adapter)
}

/**
 * Compares what the ring applied in a round with the signed deltas. `fetchState` gets a worker's trainer state at the
 * start of a round, null where it cannot be had; the state after the round is the next one's start.
 */
export async function checkFetchedSum(
  record: RoundRecord,
  deltas: ReadonlyMap<string, Uint8Array>,
  fetchState: (workerId: string, round: number) => Promise<Uint8Array | null>,
): Promise<CheckResult> {
  const agreed = async (round: number, sha3: string): Promise<Float32Array | null> => {
    for (const { peer_id: peerId } of record.contributions) {
      // With overlap it is where the steps of the round after started.
      for (const start of [round, round + 1]) {
        const adapter = adapterWith(await fetchState(peerId, start), sha3)
        if (adapter !== null) return adapter
      }
    }
    return null
  }
  const before = await agreed(record.round, record.adapter_before)
  const after = before === null ? null : await agreed(record.round + 1, record.adapter_after)
  if (before === null || after === null) {
    return unchecked(
      'round_sum',
      `no worker has the adapter ${before === null ? 'before' : 'after'} the round (yet)`,
    )
  }
  const summed: SummedDelta[] = []
  for (const contribution of record.contributions) {
    const { peer_id: workerId, weight } = contribution
    summed.push({ workerId, weight, values: await committed(deltas.get(workerId), contribution) })
  }
  return roundSumCheck(summed, before, after)
}
