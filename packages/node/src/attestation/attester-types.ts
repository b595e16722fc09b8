/** What every attester can do. No behaviour. */
import type { Attestation } from '@gym-node/wire'

/** Makes attestations over 32-byte digests of deltas. */
export interface Attester {
  readonly type: Attestation['type']
  /** Throws NodeError('ATTESTATION_UNAVAILABLE') when the device does not answer or its answer does not verify. */
  attest(digest: Uint8Array, options?: { signal?: AbortSignal }): Promise<Attestation>
}
