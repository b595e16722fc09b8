/** A delta file as it came from a worker: its numbers, body hash and worker, or nothing when it does not verify. */

import { decodeDeltaBuffer, verifyDelta } from '@gym-node/wire'
import { byName, type Adapter, type AdapterMatrix } from '../delta-tools/adapter.ts'

/** What comparisons need of a fetched delta. */
export interface FetchedDelta {
  readonly adapter: Adapter
  readonly workerId: string
  /** SHA3-256 over the body, hex: what its worker committed itself to. */
  readonly bodySha3: string
}

/** Reads and verifies a delta; null when it does not hold, whose reasons its own replay names. */
export async function readFetchedDelta(bytes: Uint8Array): Promise<FetchedDelta | null> {
  const { ok, metadata, bodySha3 } = await verifyDelta([bytes])
  if (!ok || metadata === null || bodySha3 === null) return null
  const matrices: AdapterMatrix[] = []
  for await (const { name, shape, values } of (await decodeDeltaBuffer(bytes)).tensors()) {
    matrices.push({ name, shape, values })
  }
  return {
    adapter: { matrices: matrices.sort(byName), lora: null },
    workerId: metadata.worker_id,
    bodySha3: Buffer.from(bodySha3).toString('hex'),
  }
}
