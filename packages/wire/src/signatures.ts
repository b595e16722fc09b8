/** Verification of Ed25519 (RFC 8032) and ML-DSA-87 (FIPS 204) signatures, native; false for anything that does not verify. */
import { verify } from 'node:crypto'
import type { KeyAlgorithm } from './native-keys.ts'
import { importPublicKey } from './native-keys.ts'
import { toHex } from './bytes.ts'
import { WireError } from './errors.ts'

/** Bytes of an Ed25519 signature. */
export const ED25519_SIGNATURE_BYTES = 64
/** Bytes of an ML-DSA-87 signature. */
export const ML_DSA_87_SIGNATURE_BYTES = 4627

/**
 * The y coordinates (sign bit cleared) of Ed25519 points of small order, canonical or not. Under such a key one
 * signature fits many messages, so no identity may have one. Values: libsodium ge25519_has_small_order.
 */
const SMALL_ORDER_Y: ReadonlySet<string> = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
])

/** Whether `signature` is the Ed25519 signature of `message`; false for a malformed or small-order key. */
export function verifyEd25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  return (
    !isSmallOrder(publicKey) && verifyWith('ed25519', ED25519_SIGNATURE_BYTES, publicKey, message, signature)
  )
}

/** Whether `signature` is an ML-DSA-87 signature of `message` (pure mode, empty context); false for a malformed key. */
export function verifyMlDsa87(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  return verifyWith('ml-dsa-87', ML_DSA_87_SIGNATURE_BYTES, publicKey, message, signature)
}

function verifyWith(
  algorithm: KeyAlgorithm,
  signatureBytes: number,
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  if (signature.length !== signatureBytes) return false
  try {
    return verify(null, message, importPublicKey(algorithm, publicKey), signature)
  } catch (error) {
    // A key that cannot be imported, or a point OpenSSL refuses, proves nothing: that is what false means here.
    if (error instanceof WireError || (error as NodeJS.ErrnoException).code?.startsWith('ERR_OSSL'))
      return false
    throw error
  }
}

function isSmallOrder(publicKey: Uint8Array): boolean {
  if (publicKey.length !== 32) return false
  const y = Uint8Array.from(publicKey)
  y[31] &= 0x7f
  return SMALL_ORDER_Y.has(toHex(y))
}
