/** The worker's side of audits: hands out what it keeps of its rounds, and takes verdicts about anybody. */

import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, NodeError } from '../errors.ts'
import {
  AUDIT_PROTOCOL,
  decodeRequest,
  encodeRecords,
  encodeVerdicts,
  VERDICT_PROTOCOL,
  VERDICT_TAKEN,
  type AuditFile,
  type Exchange,
} from './audit-protocol.ts'
import {
  AUDIT_READ_BYTES,
  AUDIT_SERVE_TIMEOUT_MS,
  MAX_AUDIT_REQUEST_BYTES,
  MAX_AUDIT_REQUESTS_AT_ONCE,
  MAX_VERDICT_BYTES,
} from './defaults.ts'
import { readRoundRecords } from './round-records.ts'
import type { VerdictBook } from './verdict-book.ts'
import type { AuditVerdict } from './verdict-message.ts'

/** What the service works with. */
export interface AuditServiceParts {
  readonly exchange: Exchange
  /** Folder of `round-<r>.delta`. */
  readonly deltas: string
  /** Folder of `round-<r>.trace`, `.state`, `.residual` and `.record.json`. */
  readonly traces: string
  readonly book: VerdictBook
  /** Peer ids that may ask for files; null lets any peer of the job. Traces hold prompts and completions. */
  readonly validators: readonly string[] | null
  /** Called with each verdict that is new to this node; the validator is answered when it resolves. */
  readonly onVerdict: (verdict: AuditVerdict, signed: Uint8Array) => Promise<void> | void
}

/** A kept file in parts, so that memory does not follow what is asked for. Rejects with TRACE_NOT_FOUND before the first. */
async function readKept(
  parts: AuditServiceParts,
  what: AuditFile,
  round: number,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  const path = join(what === 'delta' ? parts.deltas : parts.traces, `round-${round}.${what}`)
  try {
    const file = await open(path)
    return file.createReadStream({ highWaterMark: AUDIT_READ_BYTES, signal })
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
    throw new NodeError('TRACE_NOT_FOUND', `the ${what} of round ${round} is not kept here (any more)`, {
      cause: error,
    })
  }
}

/** Serves audits until the returned function is called. A handler's NodeError is the answer that the peer gets. */
export async function serveAudits(parts: AuditServiceParts): Promise<() => Promise<void>> {
  const { exchange, traces, book, validators, onVerdict } = parts
  const limits = { maxConcurrent: MAX_AUDIT_REQUESTS_AT_ONCE, timeoutMs: AUDIT_SERVE_TIMEOUT_MS }
  const stopAudits = await exchange.handle(
    AUDIT_PROTOCOL,
    async (bytes, { from, signal }) => {
      const request = decodeRequest(bytes)
      if (request.want === 'rounds') return encodeRecords(await readRoundRecords(traces))
      if (request.want === 'verdicts') return encodeVerdicts(book.all())
      if (validators !== null && !validators.includes(from)) {
        throw new NodeError('BAD_REQUEST', `${from} is not on this node's list of validators`)
      }
      return readKept(parts, request.want, request.round, signal)
    },
    { ...limits, maxRequestBytes: MAX_AUDIT_REQUEST_BYTES },
  )
  const stopVerdicts = await exchange.handle(
    VERDICT_PROTOCOL,
    async (bytes) => {
      const verdict = book.take(bytes)
      if (verdict !== null) await onVerdict(verdict, bytes)
      return VERDICT_TAKEN
    },
    { ...limits, maxRequestBytes: MAX_VERDICT_BYTES },
  )
  return async () => {
    await stopVerdicts()
    await stopAudits()
  }
}
