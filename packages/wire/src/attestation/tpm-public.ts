/** Parses TPM2B_PUBLIC (an attestation key's public area) into a node:crypto key and the key's TPM name. */

import { createHash, createPublicKey, type KeyObject } from 'node:crypto'

import { WireError } from '../errors.ts'
import { TPM_ALG, TPM_CURVES, TPM_HASHES, TPMA_OBJECT } from './tpm-constants.ts'
import { TpmReader } from './tpm-reader.ts'

/** What a public area says (Part 2, section 12.2.4). */
export interface TpmPublic {
  readonly key: KeyObject
  readonly kind: 'rsa' | 'ecc'
  /** RSA modulus or curve size in bits. */
  readonly bits: number
  /** TPM name: u16 name algorithm and the hash of TPMT_PUBLIC (Part 1, section 16). It covers the attributes. */
  readonly name: Uint8Array
  readonly attributes: number
  /** The key's fixed signing scheme and hash (TPM_ALG_ID), or TPM_ALG_NULL. */
  readonly scheme: number
  readonly schemeHash: number
}

/** Attributes that a key must or must not have so that its signature over "\xffTCG..." proves a TPM made it. */
export function missingAttributes(attributes: number): string[] {
  const missing: string[] = []
  for (const name of ['fixedTPM', 'sensitiveDataOrigin', 'restricted', 'sign'] as const) {
    if ((attributes & TPMA_OBJECT[name]) === 0) missing.push(name)
  }
  if ((attributes & TPMA_OBJECT.decrypt) !== 0) missing.push('not decrypt')
  return missing
}

function base64Url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url')
}

function skipSymmetric(reader: TpmReader): void {
  if (reader.u16('symmetric') === TPM_ALG.NULL) return
  reader.u16('symmetric key bits')
  reader.u16('symmetric mode')
}

function readScheme(reader: TpmReader): { scheme: number; schemeHash: number } {
  const scheme = reader.u16('scheme')
  if (scheme === TPM_ALG.NULL) return { scheme, schemeHash: TPM_ALG.NULL }
  if (scheme !== TPM_ALG.RSASSA && scheme !== TPM_ALG.RSAPSS && scheme !== TPM_ALG.ECDSA) {
    throw new WireError(
      'UNSUPPORTED',
      `signing scheme 0x${scheme.toString(16)} is not RSASSA, RSAPSS or ECDSA`,
    )
  }
  return { scheme, schemeHash: reader.u16('scheme hash') }
}

function importKey(jwk: Record<string, string>): KeyObject {
  try {
    return createPublicKey({ key: jwk, format: 'jwk' })
  } catch (cause) {
    throw new WireError(
      'BAD_ATTESTATION',
      `the attestation key's numbers are not a valid ${jwk['kty']} key`,
      { cause },
    )
  }
}

function readRsa(reader: TpmReader): Pick<TpmPublic, 'key' | 'kind' | 'bits' | 'scheme' | 'schemeHash'> {
  skipSymmetric(reader)
  const scheme = readScheme(reader)
  const bits = reader.u16('key bits')
  const exponent = reader.u32('exponent') || 65537
  const modulus = reader.sized('modulus')
  if (modulus.length * 8 !== bits) {
    throw new WireError(
      'BAD_ATTESTATION',
      `the modulus is ${modulus.length * 8} bits, the public area says ${bits}`,
    )
  }
  const exponentBytes = Buffer.alloc(4)
  exponentBytes.writeUInt32BE(exponent)
  const key = importKey({ kty: 'RSA', n: base64Url(modulus), e: exponentBytes.toString('base64url') })
  return { key, kind: 'rsa', bits, ...scheme }
}

function readEcc(reader: TpmReader): Pick<TpmPublic, 'key' | 'kind' | 'bits' | 'scheme' | 'schemeHash'> {
  skipSymmetric(reader)
  const scheme = readScheme(reader)
  const curveId = reader.u16('curve')
  const curve = TPM_CURVES.get(curveId)
  if (curve === undefined) {
    throw new WireError('UNSUPPORTED', `curve 0x${curveId.toString(16)} is not P-256, P-384 or P-521`)
  }
  if (reader.u16('kdf') !== TPM_ALG.NULL) reader.u16('kdf hash')
  const coordinates = [reader.sized('x'), reader.sized('y')].map((coordinate, at) => {
    if (coordinate.length > curve.coordinateBytes) {
      throw new WireError(
        'BAD_ATTESTATION',
        `${at === 0 ? 'x' : 'y'} is ${coordinate.length} bytes, ${curve.jwk} has ${curve.coordinateBytes}`,
      )
    }
    const padded = Buffer.alloc(curve.coordinateBytes)
    padded.set(coordinate, curve.coordinateBytes - coordinate.length)
    return padded.toString('base64url')
  })
  const key = importKey({ kty: 'EC', crv: curve.jwk, x: coordinates[0] ?? '', y: coordinates[1] ?? '' })
  const bits = curve.jwk === 'P-521' ? 521 : curve.coordinateBytes * 8
  return { key, kind: 'ecc', bits, ...scheme }
}

/**
 * Parses a TPM2B_PUBLIC. Throws `WireError`: 'BAD_ATTESTATION' on malformed bytes, 'UNSUPPORTED' on
 * algorithms outside RSA and the NIST curves or a name algorithm outside SHA-2.
 */
export function parseTpmPublic(bytes: Uint8Array): TpmPublic {
  const outer = new TpmReader(bytes, 'TPM2B_PUBLIC')
  const area = outer.sized('publicArea')
  outer.end()
  const reader = new TpmReader(area, 'TPMT_PUBLIC')
  const type = reader.u16('type')
  const nameAlg = reader.u16('nameAlg')
  const attributes = reader.u32('objectAttributes')
  reader.sized('authPolicy')
  const hash = TPM_HASHES.get(nameAlg)
  if (hash === undefined) {
    throw new WireError('UNSUPPORTED', `name algorithm 0x${nameAlg.toString(16)} is not SHA-256, 384 or 512`)
  }
  if (type !== TPM_ALG.RSA && type !== TPM_ALG.ECC) {
    throw new WireError('UNSUPPORTED', `key type 0x${type.toString(16)} is neither RSA nor ECC`)
  }
  const parsed = type === TPM_ALG.RSA ? readRsa(reader) : readEcc(reader)
  reader.end()
  const digest = createHash(hash.name).update(area).digest()
  const name = new Uint8Array(2 + digest.length)
  name.set([nameAlg >> 8, nameAlg & 0xff])
  name.set(digest, 2)
  return { ...parsed, name, attributes }
}
