/** Parses TPMT_SIGNATURE and verifies it with an attestation key: RSASSA, RSAPSS and ECDSA over SHA-2. */

import { constants, verify } from 'node:crypto'

import { WireError } from '../errors.ts'
import { MIN_RSA_BITS, TPM_ALG, TPM_HASHES } from './tpm-constants.ts'
import type { TpmPublic } from './tpm-public.ts'
import { TpmReader } from './tpm-reader.ts'

/** A signature as the TPM made it (Part 2, section 11.3.4). */
export type TpmSignature =
  | {
      readonly scheme: 'rsassa' | 'rsapss'
      readonly hash: 'sha256' | 'sha384' | 'sha512'
      readonly value: Uint8Array
    }
  | {
      readonly scheme: 'ecdsa'
      readonly hash: 'sha256' | 'sha384' | 'sha512'
      readonly r: Uint8Array
      readonly s: Uint8Array
    }

/** Parses a TPMT_SIGNATURE. Throws `WireError` 'BAD_ATTESTATION' or 'UNSUPPORTED'. */
export function parseTpmSignature(bytes: Uint8Array): TpmSignature {
  const reader = new TpmReader(bytes, 'TPMT_SIGNATURE')
  const scheme = reader.u16('sigAlg')
  if (scheme !== TPM_ALG.RSASSA && scheme !== TPM_ALG.RSAPSS && scheme !== TPM_ALG.ECDSA) {
    throw new WireError('UNSUPPORTED', `signature 0x${scheme.toString(16)} is not RSASSA, RSAPSS or ECDSA`)
  }
  const hashId = reader.u16('hash')
  const hash = TPM_HASHES.get(hashId)
  if (hash === undefined) {
    throw new WireError(
      'UNSUPPORTED',
      `signature hash 0x${hashId.toString(16)} is not SHA-256, 384 or 512; make the attestation key with -g sha256`,
    )
  }
  let signature: TpmSignature
  if (scheme === TPM_ALG.ECDSA) {
    signature = { scheme: 'ecdsa', hash: hash.name, r: reader.sized('r'), s: reader.sized('s') }
  } else {
    const name = scheme === TPM_ALG.RSASSA ? 'rsassa' : 'rsapss'
    signature = { scheme: name, hash: hash.name, value: reader.sized('signature') }
  }
  reader.end()
  return signature
}

/** r and s as the fixed-width concatenation of IEEE P1363; null when one does not fit the curve. */
function p1363(r: Uint8Array, s: Uint8Array, bits: number): Uint8Array | null {
  const width = Math.ceil(bits / 8)
  if (r.length > width || s.length > width) return null
  const joined = new Uint8Array(2 * width)
  joined.set(r, width - r.length)
  joined.set(s, 2 * width - s.length)
  return joined
}

/** Verifies `signature` over `message`; returns null when it holds, else why it does not. Never throws. */
export function tpmSignatureFault(
  message: Uint8Array,
  signature: TpmSignature,
  signer: TpmPublic,
): string | null {
  const wanted = { [TPM_ALG.RSASSA]: 'rsassa', [TPM_ALG.RSAPSS]: 'rsapss', [TPM_ALG.ECDSA]: 'ecdsa' }[
    signer.scheme
  ]
  if (wanted !== undefined && wanted !== signature.scheme) {
    return `the key's scheme is ${wanted}, the signature is ${signature.scheme}`
  }
  const hash = TPM_HASHES.get(signer.schemeHash)?.name
  if (hash !== undefined && hash !== signature.hash)
    return `the key signs with ${hash}, the signature uses ${signature.hash}`
  if ((signature.scheme === 'ecdsa') !== (signer.kind === 'ecc')) {
    return `a ${signer.kind} key cannot make a ${signature.scheme} signature`
  }
  if (signer.kind === 'rsa' && signer.bits < MIN_RSA_BITS) {
    return `the RSA key has ${signer.bits} bits, at least ${MIN_RSA_BITS} are needed`
  }
  let holds: boolean
  if (signature.scheme === 'ecdsa') {
    const joined = p1363(signature.r, signature.s, signer.bits)
    if (joined === null)
      return `r and s are ${signature.r.length} and ${signature.s.length} bytes, too long for the curve`
    holds = verify(signature.hash, message, { key: signer.key, dsaEncoding: 'ieee-p1363' }, joined)
  } else if (signature.scheme === 'rsapss') {
    const saltLength = constants.RSA_PSS_SALTLEN_AUTO
    holds = verify(
      signature.hash,
      message,
      { key: signer.key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength },
      signature.value,
    )
  } else {
    holds = verify(
      signature.hash,
      message,
      { key: signer.key, padding: constants.RSA_PKCS1_PADDING },
      signature.value,
    )
  }
  return holds ? null : `the ${signature.scheme} signature does not verify with the attestation key`
}
