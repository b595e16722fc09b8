/** Which rounds did happen: what enough members report alike. Pure. */

import type { RoundRecord } from './round-records.ts'

/** One member's records. */
export interface Testimony {
  readonly peerId: string
  readonly records: readonly RoundRecord[]
}

function sameRound(record: RoundRecord): string {
  const { round, result_sha3_256: result, adapter_before: before, adapter_after: after } = record
  const brought = record.contributions.map(
    ({ peer_id: peer, weight, commitment }) => `${peer}/${weight}/${commitment ?? 'none'}`,
  )
  return [round, result, before, after, ...brought.sort()].join(' ')
}

/**
 * Rounds that at least `minWitnesses` members and more than half of those that report the round tell alike, ascending.
 * A lone liar can neither invent a round nor hide one that the others report.
 */
export function agreedRounds(testimonies: readonly Testimony[], minWitnesses: number): RoundRecord[] {
  const voices = new Map<number, Map<string, { record: RoundRecord; count: number }>>()
  for (const { records } of testimonies) {
    const seen = new Set<number>()
    for (const record of records) {
      if (seen.has(record.round)) continue // a member has one voice a round
      seen.add(record.round)
      const versions = voices.get(record.round) ?? new Map<string, { record: RoundRecord; count: number }>()
      const key = sameRound(record)
      const version = versions.get(key) ?? { record, count: 0 }
      version.count += 1
      versions.set(key, version)
      voices.set(record.round, versions)
    }
  }
  const agreed: RoundRecord[] = []
  for (const versions of voices.values()) {
    const total = [...versions.values()].reduce((sum, { count }) => sum + count, 0)
    for (const { record, count } of versions.values()) {
      if (count >= minWitnesses && 2 * count > total) agreed.push(record)
    }
  }
  return agreed.sort((left, right) => left.round - right.round)
}
