/** What a member keeps of each committed round beside trace and start state, so that validators can find their way. */

import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { errnoOf } from '../errors.ts'
import { writeFileDurably } from '../state/atomic.ts'

const hash = z.string().regex(/^[0-9a-f]{64}$/)

/** One committed round. Hashes are SHA3-256 in hex; the adapter's are over its float32 bytes. */
export const roundRecordSchema = z.strictObject({
  round: z.int().nonnegative(),
  epoch: z.int().nonnegative(),
  /** Who took part, as the view agreed before anything was summed; `commitment` is the delta's body hash. */
  contributions: z
    .array(
      z.strictObject({
        peer_id: z.string().min(1).max(128),
        weight: z.number().nonnegative(),
        commitment: hash.nullable(),
      }),
    )
    .max(4096),
  result_sha3_256: hash,
  adapter_before: hash,
  adapter_after: hash,
})

/** See roundRecordSchema. */
export type RoundRecord = z.infer<typeof roundRecordSchema>

/** Writes a record as `round-<r>.record.json` into the folder of traces, and removes records of `keep` rounds ago. */
export async function writeRoundRecord(folder: string, record: RoundRecord, keep: number): Promise<void> {
  await writeFileDurably(join(folder, `round-${record.round}.record.json`), `${JSON.stringify(record)}\n`)
  for (const name of await readdir(folder)) {
    const round = recordRound(name)
    if (round !== null && round <= record.round - keep) await rm(join(folder, name), { force: true })
  }
}

function recordRound(name: string): number | null {
  const digits = /^round-(\d{1,15})\.record\.json$/.exec(name)?.[1]
  return digits === undefined ? null : Number(digits)
}

/** The records in a folder by round, ascending; files that are none are passed over. */
export async function readRoundRecords(folder: string): Promise<RoundRecord[]> {
  const records: RoundRecord[] = []
  for (const name of await readdir(folder)) {
    if (recordRound(name) === null) continue
    const text = await readFile(join(folder, name), 'utf8').catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return '' // pruned while this ran
      throw error
    })
    const record = text === '' ? null : parseRecord(text)
    if (record !== null) records.push(record)
  }
  return records.sort((left, right) => left.round - right.round)
}

function parseRecord(text: string): RoundRecord | null {
  try {
    return roundRecordSchema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null // not JSON: a damaged file is no record, and the round simply cannot be audited
  }
}
