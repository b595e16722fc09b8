/** Raw key bytes to and from Node's key objects (OpenSSL 3.5), through the fixed DER prefixes of each algorithm. */
import { createPrivateKey, createPublicKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { WireError } from './errors.ts'

/** Algorithms this project uses. */
export type KeyAlgorithm = 'ed25519' | 'ml-dsa-87' | 'ml-kem-768'

interface KeyForm {
  readonly publicBytes: number
  /** SubjectPublicKeyInfo up to the key's own bytes (RFC 8410 for Ed25519, RFC 9881 for ML-DSA, the LAMPS ML-KEM one). */
  readonly spkiPrefix: Buffer
  readonly seedBytes: number
  /** PKCS #8 up to the seed's own bytes, in the seed-only form. */
  readonly pkcs8Prefix: Buffer
}

const FORMS: Record<KeyAlgorithm, KeyForm> = {
  ed25519: {
    publicBytes: 32,
    spkiPrefix: Buffer.from('302a300506032b6570032100', 'hex'),
    seedBytes: 32,
    pkcs8Prefix: Buffer.from('302e020100300506032b657004220420', 'hex'),
  },
  'ml-dsa-87': {
    publicBytes: 2592,
    spkiPrefix: Buffer.from('30820a32300b060960864801650304031303820a2100', 'hex'),
    seedBytes: 32,
    pkcs8Prefix: Buffer.from('3034020100300b06096086480165030403130422' + '8020', 'hex'),
  },
  'ml-kem-768': {
    publicBytes: 1184,
    spkiPrefix: Buffer.from('308204b2300b0609608648016503040402038204a100', 'hex'),
    seedBytes: 64,
    pkcs8Prefix: Buffer.from('3054020100300b06096086480165030404020442' + '8040', 'hex'),
  },
}

/** Bytes of a raw public key. */
export function publicKeyBytes(algorithm: KeyAlgorithm): number {
  return FORMS[algorithm].publicBytes
}

/** Key object of a raw public key. Throws `BAD_KEY` on a wrong length or, for ML-KEM, a failed modulus check. */
export function importPublicKey(algorithm: KeyAlgorithm, raw: Uint8Array): KeyObject {
  const form = FORMS[algorithm]
  if (raw.length !== form.publicBytes) {
    throw new WireError(
      'BAD_KEY',
      `${algorithm} public key is ${raw.length} bytes, expected ${form.publicBytes}`,
    )
  }
  try {
    return createPublicKey({ key: Buffer.concat([form.spkiPrefix, raw]), format: 'der', type: 'spki' })
  } catch (cause) {
    throw new WireError('BAD_KEY', `bytes are not an ${algorithm} public key`, { cause })
  }
}

/** Private key object from its seed (FIPS 204 xi; FIPS 203 d || z; RFC 8032 secret key). Throws `BAD_KEY`. */
export function importSeed(algorithm: KeyAlgorithm, seed: Uint8Array): KeyObject {
  const form = FORMS[algorithm]
  if (seed.length !== form.seedBytes) {
    throw new WireError('BAD_KEY', `${algorithm} seed is ${seed.length} bytes, expected ${form.seedBytes}`)
  }
  const der = Buffer.concat([form.pkcs8Prefix, seed])
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  } catch (cause) {
    throw new WireError(
      'BAD_KEY',
      `this Node (OpenSSL ${process.versions.openssl}) cannot use ${algorithm}`,
      { cause },
    )
  } finally {
    der.fill(0)
  }
}

/** Raw public key of a private or public key object. */
export function exportPublicKey(algorithm: KeyAlgorithm, key: KeyObject): Uint8Array {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key
  const der = publicKey.export({ format: 'der', type: 'spki' })
  return new Uint8Array(der.subarray(der.length - FORMS[algorithm].publicBytes))
}
