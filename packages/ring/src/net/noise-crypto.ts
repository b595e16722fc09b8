/**
 * The cryptography of libp2p's Noise on node:crypto: the same bytes as its own (X25519, ChaCha20-Poly1305 and SHA-256,
 * which Noise_XX_25519_ChaChaPoly_SHA256 names), with key objects, since Node builds an error with its stack for every
 * key that comes as bytes; with one buffer a message; and with that memory given back. bench/all-reduce.ts --only stream
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto'
import { pureJsCrypto, type ICryptoInterface, type KeyPair } from '@libp2p/noise'
import { giveBack } from '@gym-node/wire'
import { encrypted, ReadBuffers } from './noise-memory.ts'

/** One piece, or a list of pieces as libp2p passes it. */
type Bytes = Parameters<ICryptoInterface['hashSHA256']>[0]

const CIPHER = 'chacha20-poly1305'
const TAG_BYTES = 16
const OPTIONS = { authTagLength: TAG_BYTES } as const

/** The longest message of Noise. */
const MAX_MESSAGE_BYTES = 65_535

/** PKCS #8 and SubjectPublicKeyInfo of X25519 up to the key's own 32 bytes (RFC 8410). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex')
const SPKI_PREFIX = Buffer.from('302a300506032b656e032100', 'hex')

/** For `noise({ crypto })`. Decryption throws on an altered message. */
export const noiseCrypto: ICryptoInterface = {
  ...pureJsCrypto,
  hashSHA256: (bytes) => createHash('sha256').update(bytes.subarray()).digest(),
  generateX25519KeyPair: () => keyPairOf(generateKeyPairSync('x25519').privateKey),
  generateX25519KeyPairFromSeed: (seed) => keyPairOf(privateKeyOf(seed)),
  generateX25519SharedKey: (privateKey, publicKey) =>
    diffieHellman({
      privateKey: privateKeyOf(privateKey.subarray()),
      publicKey: publicKeyOf(publicKey.subarray()),
    }),
  chaCha20Poly1305Encrypt: encrypt,
  chaCha20Poly1305Decrypt: decrypt,
}

/** Ciphertext and tag in one buffer: each buffer of a list would be a write to the socket of its own. */
function encrypt(plaintext: Bytes, nonce: Uint8Array, ad: Uint8Array, key: Uint8Array): Uint8Array {
  const { byteLength } = plaintext
  const sealed = Buffer.allocUnsafeSlow(byteLength + TAG_BYTES)
  const cipher = createCipheriv(CIPHER, sessionOf(key).key, nonce, OPTIONS)
  cipher.setAAD(ad, { plaintextLength: byteLength })
  const ciphertext = cipher.update(gather(plaintext))
  cipher.final()
  sealed.set(ciphertext)
  sealed.set(cipher.getAuthTag(), byteLength)
  giveBack(ciphertext)
  return sealed
}

/** The plaintext in fresh memory. `copy` comes with messages of the transport: the ciphertext without its tag. */
function decrypt(
  ciphertext: Bytes,
  nonce: Uint8Array,
  ad: Uint8Array,
  key: Uint8Array,
  copy?: Uint8Array,
): Uint8Array {
  const end = ciphertext.byteLength - TAG_BYTES
  const session = sessionOf(key)
  const decipher = createDecipheriv(CIPHER, session.key, nonce, OPTIONS)
  decipher.setAAD(ad, { plaintextLength: end })
  decipher.setAuthTag(ciphertext.subarray(end))
  const plaintext = decipher.update(copy ?? ciphertext.subarray(0, end))
  decipher.final()
  // Messages of the handshake are read once more by the caller.
  if (copy === undefined || ciphertext instanceof Uint8Array) return plaintext
  giveBack(copy)
  for (const part of ciphertext) session.reads.decrypted(part)
  return plaintext
}

/** What is kept for each of a connection's two keys. */
interface Session {
  readonly key: KeyObject
  readonly reads: ReadBuffers
}

const sessions = new WeakMap<Uint8Array, Session>()

/** Noise passes the same array for a key every time. */
function sessionOf(key: Uint8Array): Session {
  let session = sessions.get(key)
  if (session === undefined) {
    session = { key: createSecretKey(key), reads: new ReadBuffers() }
    sessions.set(key, session)
  }
  return session
}

const scratch = new Uint8Array(MAX_MESSAGE_BYTES)

/** The bytes in one piece, valid until the next call. */
function gather(bytes: Bytes): Uint8Array {
  if (bytes instanceof Uint8Array) return bytes
  const whole = bytes.byteLength <= scratch.byteLength ? scratch : new Uint8Array(bytes.byteLength)
  let at = 0
  for (const part of bytes) {
    whole.set(part, at)
    at += part.byteLength
    encrypted(part)
  }
  return whole.subarray(0, at)
}

function keyPairOf(key: KeyObject): KeyPair {
  const secret = key.export({ format: 'der', type: 'pkcs8' })
  const open = createPublicKey(key).export({ format: 'der', type: 'spki' })
  return { privateKey: secret.subarray(PKCS8_PREFIX.length), publicKey: open.subarray(SPKI_PREFIX.length) }
}

function privateKeyOf(raw: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, raw]), format: 'der', type: 'pkcs8' })
}

function publicKeyOf(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: 'der', type: 'spki' })
}
