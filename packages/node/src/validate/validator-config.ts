/** Sections `validator` (what a node with `role: validator` does) and `audit` (what a worker offers to validators). */

import { z } from 'zod'
import { attestationPolicyConfigSchema } from '../attestation/config.ts'
import { qualityConfigSchema } from './quality-config.ts'
import { replayConfigSchema } from './replay-config.ts'

/** Section `validator`. */
export const validatorConfigSchema = z.strictObject({
  // Replaying costs a share of the work; a cheat in every round is met after 1 / rate rounds on average.
  sample_rate: z
    .number()
    .min(0)
    .max(1)
    .default(0.1)
    .describe('Share of deltas that this validator audits, drawn from each round’s result.'),
  poll_interval_ms: z
    .int()
    .min(100)
    .max(3_600_000)
    .default(10_000)
    .describe('Time between looks for new rounds, in milliseconds.'),
  request_timeout_ms: z
    .int()
    .min(100)
    .max(3_600_000)
    .default(120_000)
    .describe('Deadline of fetching one file from a worker, in milliseconds.'),
  // An answer must cover a delta, a trace or a state; a state is three times the adapter.
  max_file_bytes: z
    .int()
    .min(1024)
    .default(1_073_741_824)
    .describe('Largest file that is fetched from a worker, in bytes.'),
  min_witnesses: z
    .int()
    .min(1)
    .default(2)
    .describe(
      'Members that must report the same round before it is audited; a majority of those that answer is needed in any case.',
    ),
  held_out: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe('JSONL file on which base and base + delta are compared; null compares statistics only.'),
  replay: replayConfigSchema.prefault({}).describe('Tolerances of the replay.'),
  quality: qualityConfigSchema.prefault({}).describe('Thresholds of the quality check.'),
  attestation: attestationPolicyConfigSchema.prefault({}).describe('What is demanded of attestations.'),
})

/** Complete validator settings. */
export type ValidatorConfig = z.infer<typeof validatorConfigSchema>

/** Section `audit`. */
export const auditConfigSchema = z.strictObject({
  validators: z
    .array(z.string().min(1))
    .nullable()
    .default(null)
    .describe(
      'Peer ids that may fetch traces and whose verdicts are taken; null is any peer of the job. Traces hold prompts and completions.',
    ),
})

/** Complete audit settings of a worker. */
export type AuditConfig = z.infer<typeof auditConfigSchema>

/** Configuration keys above whose values are paths. */
export const VALIDATOR_PATH_KEYS: readonly string[] = ['validator.held_out']
