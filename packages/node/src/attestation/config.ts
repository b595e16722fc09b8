/** Configuration of how a worker attests its deltas, and of what a validator demands of an attestation. */

import { z } from 'zod'
import { DEFAULT_TPM2_KEY_HANDLE, DEFAULT_TPM2_PCRS, DEFAULT_TPM2_TIMEOUT_MS } from './defaults.ts'

/** Section `attestation` of the worker's configuration. */
export const attestationConfigSchema = z.strictObject({
  type: z
    .enum(['none', 'tpm2', 'nvidia-cc'])
    .default('none')
    .describe(
      'none, or tpm2: each delta carries a quote of this machine’s TPM. nvidia-cc is not available yet.',
    ),
  tpm2_key_handle: z
    .string()
    .regex(/^0x81[0-9a-fA-F]{6}$/, { error: 'expected a persistent handle, 0x81000000 to 0x81ffffff' })
    .default(DEFAULT_TPM2_KEY_HANDLE)
    .describe('Persistent handle of the attestation key in the TPM.'),
  tpm2_pcrs: z
    .array(z.int().min(0).max(23))
    .min(1)
    .max(24)
    .default([...DEFAULT_TPM2_PCRS])
    .describe('Platform configuration registers (SHA-256 bank) that the quote covers.'),
  tpm2_tcti: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe('How tpm2-tools reach the TPM, e.g. device:/dev/tpmrm0; null leaves it to them.'),
  tpm2_certificates: z
    .array(z.string().min(1))
    .default([])
    .describe('PEM files with the certificate chain of the attestation key, its own first.'),
  tpm2_timeout_ms: z
    .int()
    .min(100)
    .max(600_000)
    .default(DEFAULT_TPM2_TIMEOUT_MS)
    .describe('Deadline of one command to the TPM, in milliseconds.'),
})

/** Complete attestation settings of a worker. */
export type AttestationConfig = z.infer<typeof attestationConfigSchema>

/** Section `attestation` of a validator: what it demands. */
export const attestationPolicyConfigSchema = z.strictObject({
  required: z.boolean().default(false).describe('Reject deltas without an attestation.'),
  trusted_keys: z
    .array(z.string().regex(/^[0-9a-fA-F]{4,132}$/, { error: 'expected a TPM key name in hex' }))
    .default([])
    .describe('TPM names (hex) of attestation keys that are trusted without a certificate.'),
  roots: z
    .array(z.string().min(1))
    .default([])
    .describe('PEM files of authorities that certify attestation keys.'),
  pcrs: z
    .record(z.string().regex(/^([0-9]|1[0-9]|2[0-3])$/), z.string().regex(/^[0-9a-f]{64}$/))
    .default({})
    .describe('Values (lower-case hex, SHA-256 bank) that registers must have, by their number.'),
})

/** What a validator demands, as configured. */
export type AttestationPolicyConfig = z.infer<typeof attestationPolicyConfigSchema>

/** Configuration keys above whose values are paths. */
export const ATTESTATION_PATH_KEYS: readonly string[] = [
  'attestation.tpm2_certificates',
  'validator.attestation.roots',
]
