/**
 * Which deltas a validator audits: a public function of the round's agreed result, so that no worker can know it before
 * its delta is fixed, and anybody can see afterwards that a validator neither spared nor hunted anyone. Pure.
 */

import { sha3_256 } from '@gym-node/wire'

const TWO_TO_48 = 2 ** 48

/** What the choice depends on. */
export interface AuditDraw {
  readonly job: string
  readonly round: number
  /** Hex hash of the round's result, which all members agreed on and every contribution changes. */
  readonly resultSha3: string
  readonly workerId: string
  /** Makes validators choose independently of each other. */
  readonly validatorId: string
}

/** A number in [0, 1), uniform over results: the first 48 bits of SHA3-256 over a label and the fields. */
export function auditDraw({ job, round, resultSha3, workerId, validatorId }: AuditDraw): number {
  // Ids and the job's name hold no zero byte, so the fields cannot run into each other.
  const text = ['gym-audit-v1', job, String(round), resultSha3, workerId, validatorId].join('\0')
  return Buffer.from(sha3_256(Buffer.from(text))).readUIntBE(0, 6) / TWO_TO_48
}

/** Whether this delta is audited at `rate`, the share of deltas that a validator looks at. */
export function isAudited(draw: AuditDraw, rate: number): boolean {
  return auditDraw(draw) < rate
}
