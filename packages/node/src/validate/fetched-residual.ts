/** What a validator needs about a lossy delta's residual, as its worker hands it out. */

import { decodeDeltaBuffer, verifyDelta, WireError, type DeltaMetadata } from '@gym-node/wire'
import type { AuditFile } from './audit-protocol.ts'
import type { ResidualFiles } from './replay-types.ts'
import type { RoundRecord } from './round-records.ts'

/** Gets a file of a round from the worker: its bytes, or why it could not be had. */
export type FetchFile = (want: AuditFile, round: number) => Promise<Uint8Array | string>

/** The statement about residuals; undefined where there is none, or no delta that could be read. */
async function statedResidual(delta: Uint8Array): Promise<DeltaMetadata['residual']> {
  try {
    const decoded = await decodeDeltaBuffer(delta)
    await decoded.close()
    return decoded.metadata.residual
  } catch (error) {
    if (error instanceof WireError) return undefined // its replay says what is wrong with it
    throw error
  }
}

/**
 * The files about the residual of `delta`, or why one could not be had. `previous` is the agreed record of the round
 * before, undefined where nobody remembers it.
 */
export async function fetchResidual(
  delta: Uint8Array,
  { round, workerId, previous }: { round: number; workerId: string; previous: RoundRecord | undefined },
  fetch: FetchFile,
): Promise<ResidualFiles | string> {
  const stated = await statedResidual(delta)
  if (stated === undefined) return {}
  const after = await fetch('residual', round)
  if (typeof after === 'string') return after
  if (stated.before === null) return { after }
  const before = await fetch('residual', round - 1)
  if (typeof before === 'string') return before
  if (round === 1) return { before, after, previousDelta: null }
  if (previous === undefined) return { before, after }
  const counted = previous.contributions.find(({ peer_id: peerId }) => peerId === workerId)
  if (counted === undefined) return { before, after, previousDelta: null }
  const previousDelta = await fetch('delta', round - 1)
  if (typeof previousDelta === 'string') return previousDelta
  const { bodySha3 } = await verifyDelta([previousDelta])
  const sha3 = bodySha3 === null ? 'unreadable' : Buffer.from(bodySha3).toString('hex')
  if (counted.commitment !== null && counted.commitment !== sha3)
    return `delta: that of round ${round - 1} is ${sha3}, the ring counted ${counted.commitment}`
  return { before, after, previousDelta }
}
