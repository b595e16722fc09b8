/** AES-256-GCM through node:crypto, as every Node can: a cipher and two buffers for every message, then a copy. */
import { createCipheriv, createDecipheriv, createSecretKey } from 'node:crypto'
import { AEAD_KEY_BYTES, AEAD_TAG_BYTES, requireOpenable, requireSealable, type AeadEngine } from './aead.ts'
import { requireLength } from './bytes.ts'
import { giveBack } from './memory.ts'

const CIPHER = 'aes-256-gcm'
const OPTIONS = { authTagLength: AEAD_TAG_BYTES } as const

/** Keys become key objects, because Node would make one of bytes for every message. */
export const nodeEngine: AeadEngine = {
  name: 'node',
  sealer: (bytes) => {
    requireLength(bytes, AEAD_KEY_BYTES, 'key')
    const key = createSecretKey(bytes)
    return (nonce, associated, plaintext, out) => {
      requireSealable(nonce, plaintext, out)
      const cipher = createCipheriv(CIPHER, key, nonce, OPTIONS)
      cipher.setAAD(associated)
      const ciphertext = cipher.update(plaintext)
      cipher.final()
      out.set(ciphertext)
      out.set(cipher.getAuthTag(), ciphertext.byteLength)
      giveBack(ciphertext)
    }
  },
  opener: (bytes) => {
    requireLength(bytes, AEAD_KEY_BYTES, 'key')
    const key = createSecretKey(bytes)
    return (nonce, associated, sealed, out) => {
      requireOpenable(nonce, sealed, out)
      const end = out.byteLength
      const decipher = createDecipheriv(CIPHER, key, nonce, OPTIONS)
      decipher.setAAD(associated)
      decipher.setAuthTag(sealed.subarray(end))
      const plaintext = decipher.update(sealed.subarray(0, end))
      try {
        decipher.final()
      } catch {
        return false
      }
      out.set(plaintext)
      giveBack(plaintext)
      return true
    }
  },
}
