/** The signature block of a DELTA file: what is signed, and its bytes. */
import { sha3_256 } from './hash.ts'
import type { ByteReader } from './byte-reader.ts'
import { concatBytes, utf8 } from './bytes.ts'
import { WireError } from './errors.ts'
import type { Identity } from './identity.ts'
import { publicKeyBytes } from './native-keys.ts'
import {
  ED25519_SIGNATURE_BYTES,
  ML_DSA_87_SIGNATURE_BYTES,
  verifyEd25519,
  verifyMlDsa87,
} from './signatures.ts'

/** Signature schemes, by their codes 1 and 2. */
export type DeltaScheme = 'ed25519' | 'ml-dsa-87'

/** One signature as stored. It proves nothing until `verifyDeltaSignature`. */
export interface DeltaSignature {
  readonly scheme: DeltaScheme
  readonly publicKey: Uint8Array
  readonly signature: Uint8Array
}

const LABEL = utf8('gym-delta-v1\0')
const SCHEMES: Record<
  DeltaScheme,
  { readonly code: number; readonly keyBytes: number; readonly signatureBytes: number }
> = {
  ed25519: { code: 1, keyBytes: publicKeyBytes('ed25519'), signatureBytes: ED25519_SIGNATURE_BYTES },
  'ml-dsa-87': { code: 2, keyBytes: publicKeyBytes('ml-dsa-87'), signatureBytes: ML_DSA_87_SIGNATURE_BYTES },
}

/** What both schemes sign: `"gym-delta-v1\0" || SHA3-256(header || body)`. */
export function deltaSignedMessage(fileSha3: Uint8Array): Uint8Array {
  return concatBytes(LABEL, fileSha3)
}

/** The block that ends a signed file, both schemes, Ed25519 first. `fileSha3` is SHA3-256 over header and body. */
export function signDelta(identity: Identity, fileSha3: Uint8Array): Uint8Array {
  const message = deltaSignedMessage(fileSha3)
  return encodeSignatureBlock([
    { scheme: 'ed25519', publicKey: identity.ed25519PublicKey, signature: identity.signEd25519(message) },
    { scheme: 'ml-dsa-87', publicKey: identity.mlDsa87PublicKey, signature: identity.signMlDsa87(message) },
  ])
}

/** u16 count, then for each: u8 scheme, u16 + public key, u16 + signature. */
export function encodeSignatureBlock(signatures: readonly DeltaSignature[]): Uint8Array {
  const parts = [u16(signatures.length)]
  for (const { scheme, publicKey, signature } of signatures) {
    parts.push(
      Uint8Array.of(SCHEMES[scheme].code),
      u16(publicKey.length),
      publicKey,
      u16(signature.length),
      signature,
    )
  }
  return concatBytes(...parts)
}

/**
 * Reads a block: at least one signature, schemes ascending and each at most once, lengths as their standards say.
 * Throws `BAD_DELTA`, `UNSUPPORTED`, `TRUNCATED`.
 */
export async function readSignatureBlock(reader: ByteReader): Promise<DeltaSignature[]> {
  const count = asU16(await reader.read(2, 'the signature count'))
  const known = Object.keys(SCHEMES).length
  if (count === 0 || count > known) {
    throw new WireError('BAD_DELTA', `signature block has ${count} signatures, expected 1 to ${known}`)
  }
  const signatures: DeltaSignature[] = []
  let previous = 0
  for (let i = 0; i < count; i++) {
    const [code = 0] = await reader.read(1, 'a signature scheme')
    const scheme = schemeOf(code)
    if (code <= previous)
      throw new WireError('BAD_DELTA', `signature scheme ${code} follows ${previous}, expected ascending`)
    previous = code
    const { keyBytes, signatureBytes } = SCHEMES[scheme]
    const publicKey = await readSized(reader, keyBytes, `the ${scheme} public key`)
    const signature = await readSized(reader, signatureBytes, `the ${scheme} signature`)
    signatures.push({ scheme, publicKey, signature })
  }
  return signatures
}

/** Whether one signature of a file with this SHA3-256 over header and body verifies under its own key. */
export function verifyDeltaSignature(
  { scheme, publicKey, signature }: DeltaSignature,
  fileSha3: Uint8Array,
): boolean {
  const message = deltaSignedMessage(fileSha3)
  switch (scheme) {
    case 'ed25519':
      return verifyEd25519(publicKey, message, signature)
    case 'ml-dsa-87':
      return verifyMlDsa87(publicKey, message, signature)
  }
}

/**
 * What a hardware attestation of a delta signs: SHA3-256 over `"gym-attest-v1\0"`, the SHA3-256 of the metadata with
 * `attestation` set to `{"type":"none"}`, and the SHA3-256 of the body from the tensor count on. It cannot be over the
 * whole body, which holds the attestation.
 */
export function attestationDigest(
  metadataWithoutAttestation: Uint8Array,
  tensorsSha3: Uint8Array,
): Uint8Array {
  return sha3_256(utf8('gym-attest-v1\0'), sha3_256(metadataWithoutAttestation), tensorsSha3)
}

async function readSized(reader: ByteReader, expected: number, what: string): Promise<Uint8Array> {
  const length = asU16(await reader.read(2, `the length of ${what}`))
  if (length !== expected)
    throw new WireError('BAD_DELTA', `${what} is ${length} bytes, expected ${expected}`)
  return new Uint8Array(await reader.read(length, what))
}

function schemeOf(code: number): DeltaScheme {
  switch (code) {
    case 1:
      return 'ed25519'
    case 2:
      return 'ml-dsa-87'
    default:
      throw new WireError(
        'UNSUPPORTED',
        `signature scheme ${code}, this reader knows 1 (Ed25519) and 2 (ML-DSA-87)`,
      )
  }
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, value >>> 8)
}

function asU16(bytes: Uint8Array): number {
  return bytes[0] | (bytes[1] << 8)
}
