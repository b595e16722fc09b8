/**
 * A validator's verdict as it is published: canonical JSON, signed with both of the validator's keys over
 * `"gym-verdict-v1\0" || SHA3-256(verdict)`. Anybody can check it and, with the files, repeat it.
 */

import {
  canonicalJson,
  decodeKeyBinding,
  encodeKeyBinding,
  parseCanonicalJson,
  sha3_256,
  verifyEd25519,
  verifyKeyBinding,
  verifyMlDsa87,
  WireError,
  type Identity,
  type JsonValue,
} from '@gym-node/wire'
import { z } from 'zod'
import { NodeError } from '../errors.ts'
import { MAX_VERDICT_BYTES } from './defaults.ts'

const text = z.string().max(1024)
const hash = z.string().regex(/^[0-9a-f]{64}$/)
const check = z.strictObject({ name: text, ok: z.boolean().nullable(), detail: z.string().max(4096) })

const verdictSchema = z.strictObject({
  version: z.literal(1),
  job: text,
  round: z.int().nonnegative(),
  worker_id: text,
  validator_id: text,
  /** accepted and rejected follow a replay or a contradiction; unavailable: the worker did not hand out its files. */
  result: z.enum(['accepted', 'rejected', 'unavailable']),
  checks: z.array(check).max(64),
  /** Statistics beside the round's other deltas and held-out reward; advisory, no part of `result`. */
  quality: z.array(check).max(64),
  result_sha3_256: hash,
  delta_sha3_256: hash.nullable(),
  trace_sha3_256: hash.nullable(),
  base_sha3_256: hash.nullable(),
  timestamp: z.iso.datetime(),
  replay_seconds: z.number().nonnegative(),
  software: text,
})

/** What a validator says of one delta. Hashes are SHA3-256 in hex, of whole files as they were fetched. */
export type AuditVerdict = z.infer<typeof verdictSchema>

const envelopeSchema = z.strictObject({
  verdict: verdictSchema,
  binding: z.base64(),
  ed25519_signature: z.base64(),
  ml_dsa_87_signature: z.base64(),
})

function signedBytes(verdict: AuditVerdict): Uint8Array {
  const canonical = Buffer.from(canonicalJson(verdict as unknown as JsonValue))
  return Buffer.concat([Buffer.from('gym-verdict-v1\0'), sha3_256(canonical)])
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** The signed bytes of a verdict. Throws NodeError BAD_REQUEST when it names another validator than the signer. */
export function signVerdict(verdict: AuditVerdict, identity: Identity): Uint8Array {
  if (verdict.validator_id !== identity.peerId) {
    throw new NodeError(
      'BAD_REQUEST',
      `the verdict is by ${verdict.validator_id}, the signer is ${identity.peerId}`,
    )
  }
  const message = signedBytes(verdict)
  const envelope = {
    verdict,
    binding: base64(encodeKeyBinding(identity.binding)),
    ed25519_signature: base64(identity.signEd25519(message)),
    ml_dsa_87_signature: base64(identity.signMlDsa87(message)),
  }
  return Buffer.from(canonicalJson(envelope as unknown as JsonValue))
}

/**
 * The verdict in signed bytes from a stranger. Throws NodeError: BAD_REQUEST when it is malformed or too large,
 * VERIFY_FAILED when a signature, the binding or the validator's name does not hold.
 */
export function openVerdict(bytes: Uint8Array): AuditVerdict {
  if (bytes.length > MAX_VERDICT_BYTES) {
    throw new NodeError(
      'BAD_REQUEST',
      `a verdict of ${bytes.length} bytes, the limit is ${MAX_VERDICT_BYTES}`,
    )
  }
  try {
    const parsed = envelopeSchema.safeParse(parseCanonicalJson(bytes, 'verdict'))
    if (!parsed.success)
      throw new NodeError('BAD_REQUEST', `a malformed verdict: ${z.prettifyError(parsed.error)}`)
    const { verdict, binding, ed25519_signature: ed25519, ml_dsa_87_signature: mlDsa87 } = parsed.data
    const signer = verifyKeyBinding(decodeKeyBinding(Buffer.from(binding, 'base64')))
    const message = signedBytes(verdict)
    const isSigned =
      verifyEd25519(signer.ed25519PublicKey, message, Buffer.from(ed25519, 'base64')) &&
      verifyMlDsa87(signer.mlDsa87PublicKey, message, Buffer.from(mlDsa87, 'base64'))
    if (!isSigned) throw new NodeError('VERIFY_FAILED', `the verdict's signatures do not verify`)
    if (signer.peerId !== verdict.validator_id) {
      throw new NodeError(
        'VERIFY_FAILED',
        `the verdict names ${verdict.validator_id}, its signer is ${signer.peerId}`,
      )
    }
    return verdict
  } catch (error) {
    if (!(error instanceof WireError)) throw error
    const code = error.code === 'BAD_SIGNATURE' || error.code === 'BAD_KEY' ? 'VERIFY_FAILED' : 'BAD_REQUEST'
    throw new NodeError(code, `a verdict that cannot be read: ${error.message}`, { cause: error })
  }
}
