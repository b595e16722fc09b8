/** The verdict on a DELTA file: is it whole, who signed it, and is that who it names. Answers, does not throw, on bad bytes. */
import type { JsonValue } from './canonical-json.ts'
import { canonicalJson } from './canonical-json.ts'
import type { ByteSource } from './byte-reader.ts'
import { equalBytes, utf8 } from './bytes.ts'
import type { DeltaLimits } from './defaults.ts'
import { DEFAULT_DELTA_LIMITS } from './defaults.ts'
import type { DeltaTail } from './delta-decode.ts'
import { decodeDelta } from './delta-decode.ts'
import type { DeltaMetadata } from './delta-metadata.ts'
import type { DeltaScheme } from './delta-signatures.ts'
import { attestationDigest, verifyDeltaSignature } from './delta-signatures.ts'
import { WireError } from './errors.ts'
import type { PublicIdentity } from './key-binding.ts'
import { decodeKeyBinding, verifyKeyBinding } from './key-binding.ts'

/** What is checked, in this order. */
export type DeltaCheckName = 'format' | 'checksum' | 'ed25519' | 'ml_dsa_87' | 'binding' | 'worker_id'

/** One check: whether it held, and what was seen. */
export interface DeltaCheck {
  readonly name: DeltaCheckName
  readonly ok: boolean
  readonly detail: string
}

/** The verdict. `ok` only when every check held: an unsigned file is not ok. The attestation is judged elsewhere. */
export interface DeltaVerdict {
  readonly ok: boolean
  readonly checks: readonly DeltaCheck[]
  /** Null when the file could not be read that far. */
  readonly metadata: DeltaMetadata | null
  /** SHA3-256 over the body; null when the file could not be read to its end. */
  readonly bodySha3: Uint8Array | null
  /** What an attestation must cover; null without one. */
  readonly attestationDigest: Uint8Array | null
}

/**
 * Reads `source` to its end and checks everything. Rejects only when the source itself fails to deliver. Name the size
 * of a large file that comes as a stream: it is then hashed beside the reading.
 */
export async function verifyDelta(
  source: ByteSource,
  limits: DeltaLimits = DEFAULT_DELTA_LIMITS,
  expectedBytes = sizeOf(source),
): Promise<DeltaVerdict> {
  let metadata: DeltaMetadata | null = null
  try {
    const delta = await decodeDelta(source, limits, 'all', expectedBytes)
    metadata = delta.metadata
    const tail = await delta.finish()
    const checks = judge(metadata, tail, delta.tensorCount)
    return {
      ok: checks.every(({ ok }) => ok),
      checks,
      metadata,
      bodySha3: tail.bodySha3,
      attestationDigest: digestOf(metadata, tail),
    }
  } catch (error) {
    if (!(error instanceof WireError)) throw error
    return { ok: false, checks: unreadable(error), metadata, bodySha3: null, attestationDigest: null }
  }
}

/** Bytes of a source in memory; 0 of a stream. */
function sizeOf(source: ByteSource): number {
  return Array.isArray(source) ? (source as Uint8Array[]).reduce((sum, { length }) => sum + length, 0) : 0
}

function judge(metadata: DeltaMetadata, tail: DeltaTail, tensorCount: number): DeltaCheck[] {
  const signer = bindingOf(metadata)
  return [
    { name: 'format', ok: true, detail: `DELTA 1, ${tensorCount} tensors, ${tail.fileBytes} bytes` },
    { name: 'checksum', ok: true, detail: "SHA3-256 over the body begins with the header's 16 bytes" },
    signatureCheck('ed25519', 'ed25519', tail),
    signatureCheck('ml_dsa_87', 'ml-dsa-87', tail),
    signer instanceof WireError
      ? { name: 'binding', ok: false, detail: signer.message }
      : bindingCheck(signer, tail),
    signer instanceof WireError
      ? { name: 'worker_id', ok: false, detail: 'no valid binding says whose keys these are' }
      : {
          name: 'worker_id',
          ok: signer.peerId === metadata.worker_id,
          detail: `worker_id is ${metadata.worker_id}, the keys are ${signer.peerId}`,
        },
  ]
}

function signatureCheck(
  name: DeltaCheckName,
  scheme: DeltaScheme,
  { signatures, fileSha3 }: DeltaTail,
): DeltaCheck {
  const signature = signatures.find((candidate) => candidate.scheme === scheme)
  if (signature === undefined || fileSha3 === null)
    return { name, ok: false, detail: `no ${scheme} signature` }
  const ok = verifyDeltaSignature(signature, fileSha3)
  return { name, ok, detail: ok ? `${scheme} signature verifies` : `${scheme} signature does not verify` }
}

function bindingOf({ binding }: DeltaMetadata): PublicIdentity | WireError {
  if (binding === null) return new WireError('BAD_SIGNATURE', 'the metadata holds no key binding')
  try {
    return verifyKeyBinding(decodeKeyBinding(Buffer.from(binding, 'base64')))
  } catch (error) {
    if (error instanceof WireError) return error
    throw error
  }
}

/** Without this a stranger's binding could stand beside other keys' signatures. */
function bindingCheck(signer: PublicIdentity, { signatures }: DeltaTail): DeltaCheck {
  const keys: Record<DeltaScheme, Uint8Array> = {
    ed25519: signer.ed25519PublicKey,
    'ml-dsa-87': signer.mlDsa87PublicKey,
  }
  const stray = signatures.find(({ scheme, publicKey }) => !equalBytes(publicKey, keys[scheme]))
  if (stray !== undefined) {
    return {
      name: 'binding',
      ok: false,
      detail: `the ${stray.scheme} signature is under a key that the binding does not name`,
    }
  }
  return { name: 'binding', ok: true, detail: 'each key has signed the other' }
}

function digestOf(metadata: DeltaMetadata, { tensorsSha3 }: DeltaTail): Uint8Array | null {
  if (tensorsSha3 === null) return null
  const blank = { ...metadata, attestation: { type: 'none' } } as unknown as JsonValue // it came from JSON
  return attestationDigest(utf8(canonicalJson(blank)), tensorsSha3)
}

function unreadable(error: WireError): DeltaCheck[] {
  const isAltered = error.code === 'BAD_CHECKSUM'
  const format: DeltaCheck = {
    name: 'format',
    ok: isAltered,
    detail: isAltered ? 'readable' : `${error.code}: ${error.message}`,
  }
  const checksum: DeltaCheck = {
    name: 'checksum',
    ok: false,
    detail: isAltered ? error.message : 'not reached',
  }
  const rest = (['ed25519', 'ml_dsa_87', 'binding', 'worker_id'] as const).map((name) => ({
    name,
    ok: false,
    detail: 'not reached',
  }))
  return [format, checksum, ...rest]
}
