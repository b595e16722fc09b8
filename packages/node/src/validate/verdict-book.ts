/** The signed verdicts that a node knows, in memory, the newest ones; one for each validator, worker and round. */

import { NodeError } from '../errors.ts'
import { MAX_VERDICTS_KEPT } from './defaults.ts'
import { openVerdict, type AuditVerdict } from './verdict-message.ts'

/** Verdicts by what they are about. */
export class VerdictBook {
  readonly #job: string
  readonly #validators: ReadonlySet<string> | null
  readonly #kept = new Map<string, Uint8Array>()

  /** `validators`: peer ids whose verdicts are taken; null takes any signed one. */
  constructor(job: string, validators: readonly string[] | null) {
    this.#job = job
    this.#validators = validators === null ? null : new Set(validators)
  }

  /**
   * Checks and keeps a verdict; returns it, or null when it is known already. The oldest goes when the book is full.
   * Throws NodeError BAD_REQUEST (malformed, another job, a validator that is not on the list) or VERIFY_FAILED.
   */
  take(bytes: Uint8Array): AuditVerdict | null {
    const verdict = openVerdict(bytes)
    if (verdict.job !== this.#job) {
      throw new NodeError('BAD_REQUEST', `the verdict is about job ${verdict.job}, this is ${this.#job}`)
    }
    if (this.#validators !== null && !this.#validators.has(verdict.validator_id)) {
      throw new NodeError('BAD_REQUEST', `${verdict.validator_id} is not on this node's list of validators`)
    }
    const key = keyOf(verdict.validator_id, verdict.worker_id, verdict.round)
    if (this.#kept.has(key)) return null
    this.#kept.set(key, Uint8Array.from(bytes))
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= MAX_VERDICTS_KEPT) break
      this.#kept.delete(oldest)
    }
    return verdict
  }

  /** Whether a verdict of this validator on this worker's round is known. */
  has(validatorId: string, workerId: string, round: number): boolean {
    return this.#kept.has(keyOf(validatorId, workerId, round))
  }

  /** All signed verdicts, oldest first. */
  all(): Uint8Array[] {
    return [...this.#kept.values()]
  }
}

function keyOf(validatorId: string, workerId: string, round: number): string {
  return JSON.stringify([validatorId, workerId, round])
}
