/**
 * The audit protocol between validators and workers, over the ring's bounded request and response: what can be asked,
 * and in which bytes. Everything that comes from the other side is checked here. Pure.
 */

import { z } from 'zod'
import { messageOf, NodeError } from '../errors.ts'
import { MAX_RECORDS_ANSWERED } from './defaults.ts'
import { roundRecordSchema, type RoundRecord } from './round-records.ts'

/** Protocol by which a worker hands out records, deltas, traces, states and residuals. */
export const AUDIT_PROTOCOL = '/gym/audit/1'

/** Protocol by which a validator publishes a signed verdict. */
export const VERDICT_PROTOCOL = '/gym/verdict/1'

/** Answer to an accepted verdict. */
export const VERDICT_TAKEN: Uint8Array = Buffer.from('taken')

const requestSchema = z.discriminatedUnion('want', [
  z.strictObject({ want: z.literal('rounds') }),
  z.strictObject({ want: z.literal('verdicts') }),
  z.strictObject({ want: z.enum(['delta', 'trace', 'state', 'residual']), round: z.int().nonnegative() }),
])

/** What a validator may ask of a worker. */
export type AuditRequest = z.infer<typeof requestSchema>

/** The files of a round that a worker keeps. */
export type AuditFile = 'delta' | 'trace' | 'state' | 'residual'

/** The part of a ring that audits need: bounded requests between peers of the job. */
export interface Exchange {
  readonly peerId: string
  /** Connected peers of the job. */
  peers(): readonly string[]
  request(
    peer: string,
    protocol: string,
    request: Uint8Array,
    options: { maxResponseBytes: number; timeoutMs: number; signal?: AbortSignal },
  ): Promise<Uint8Array>
  /** Serves a protocol until the returned function is called. */
  handle(
    protocol: string,
    handler: (
      request: Uint8Array,
      context: { from: string; signal: AbortSignal },
    ) => Promise<Uint8Array | AsyncIterable<Uint8Array>>,
    limits: { maxRequestBytes: number; maxConcurrent: number; timeoutMs: number },
  ): Promise<() => Promise<void>>
}

/** Bytes of a request. */
export function encodeRequest(request: AuditRequest): Uint8Array {
  return Buffer.from(JSON.stringify(request))
}

function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw new NodeError('BAD_REQUEST', `${what} is no JSON: ${messageOf(cause)}`, { cause })
  }
}

/** A request from bytes. Throws NodeError BAD_REQUEST. */
export function decodeRequest(bytes: Uint8Array): AuditRequest {
  const parsed = requestSchema.safeParse(parseJson(bytes, 'an audit request'))
  if (parsed.success) return parsed.data
  throw new NodeError('BAD_REQUEST', `an audit request that is not known: ${z.prettifyError(parsed.error)}`)
}

/** Records as an answer: the newest ones that the limit allows. */
export function encodeRecords(records: readonly RoundRecord[]): Uint8Array {
  return Buffer.from(JSON.stringify(records.slice(-MAX_RECORDS_ANSWERED)))
}

/** Records from an answer. Throws NodeError BAD_REQUEST. */
export function decodeRecords(bytes: Uint8Array): RoundRecord[] {
  const parsed = z
    .array(roundRecordSchema)
    .max(MAX_RECORDS_ANSWERED)
    .safeParse(parseJson(bytes, 'a list of rounds'))
  if (parsed.success) return parsed.data
  throw new NodeError('BAD_REQUEST', `a list of rounds that is none: ${z.prettifyError(parsed.error)}`)
}

/** Signed verdicts as an answer: one base64 text each. */
export function encodeVerdicts(verdicts: readonly Uint8Array[]): Uint8Array {
  return Buffer.from(JSON.stringify(verdicts.map((bytes) => Buffer.from(bytes).toString('base64'))))
}

/** Signed verdicts from an answer, each still to be opened. Throws NodeError BAD_REQUEST. */
export function decodeVerdicts(bytes: Uint8Array): Uint8Array[] {
  const parsed = z.array(z.base64()).safeParse(parseJson(bytes, 'a list of verdicts'))
  if (parsed.success) return parsed.data.map((text) => new Uint8Array(Buffer.from(text, 'base64')))
  throw new NodeError('BAD_REQUEST', 'a list of verdicts that is none')
}
