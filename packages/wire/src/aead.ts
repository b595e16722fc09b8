/** AES-256-GCM (NIST SP 800-38D) over memory of the caller's: what an engine does, whichever it is. */

import { requireLength } from './bytes.ts'

export const AEAD_KEY_BYTES = 32
export const AEAD_NONCE_BYTES = 12
export const AEAD_TAG_BYTES = 16

/**
 * Writes the ciphertext of `plaintext` and its tag to `out`, which is 16 bytes longer and lies elsewhere or begins where
 * `plaintext` does. No nonce may come twice under one key; that is the caller's matter.
 */
export type Seal = (nonce: Uint8Array, associated: Uint8Array, plaintext: Uint8Array, out: Uint8Array) => void

/**
 * Writes the plaintext of `sealed`, ciphertext and tag, to `out`, which is 16 bytes shorter and lies elsewhere. False
 * where the tag does not verify: `out` may then hold anything.
 */
export type Open = (nonce: Uint8Array, associated: Uint8Array, sealed: Uint8Array, out: Uint8Array) => boolean

/** Keys are 32 bytes, and are taken over at once. Throws `BAD_ARGUMENT` on any length that does not fit. */
export interface AeadEngine {
  readonly name: 'openssl' | 'node'
  readonly sealer: (key: Uint8Array) => Seal
  readonly opener: (key: Uint8Array) => Open
}

/** What both engines ask of a message to be sealed. Throws `BAD_ARGUMENT`; nothing has been written then. */
export function requireSealable(nonce: Uint8Array, plaintext: Uint8Array, out: Uint8Array): void {
  requireLength(nonce, AEAD_NONCE_BYTES, 'nonce')
  requireLength(out, plaintext.byteLength + AEAD_TAG_BYTES, 'room')
}

/** The same of a message to be opened. */
export function requireOpenable(nonce: Uint8Array, sealed: Uint8Array, out: Uint8Array): void {
  requireLength(nonce, AEAD_NONCE_BYTES, 'nonce')
  requireLength(sealed, out.byteLength + AEAD_TAG_BYTES, 'sealed message')
}
