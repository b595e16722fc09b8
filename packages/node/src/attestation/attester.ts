/**
 * What attests a worker's deltas. `createAttester` makes the configured one and fails at once where it cannot work,
 * so that a daemon does not find out after an hour of training. Checking is in wire: `verifyAttestation`.
 */

import { NodeError } from '../errors.ts'
import type { Attester } from './attester-types.ts'
import type { AttestationConfig } from './config.ts'
import { openTpm2Attester } from './tpm2-attester.ts'

const NO_ATTESTER: Attester = { type: 'none', attest: () => Promise.resolve({ type: 'none' }) }

/**
 * The attester of a configuration. Throws NodeError: 'ATTESTATION_UNSUPPORTED' for a kind that is only planned,
 * 'ATTESTATION_UNAVAILABLE' when the TPM, its tools or the key are missing.
 */
export async function createAttester(config: AttestationConfig): Promise<Attester> {
  switch (config.type) {
    case 'none':
      return NO_ATTESTER
    case 'tpm2':
      return openTpm2Attester(config)
    case 'nvidia-cc':
      throw new NodeError(
        'ATTESTATION_UNSUPPORTED',
        'attestation.type is nvidia-cc, but this version makes and checks no NVIDIA confidential-computing reports; ' +
          'none and tpm2 work (docs/VALIDATION.md says what is missing)',
      )
  }
}
