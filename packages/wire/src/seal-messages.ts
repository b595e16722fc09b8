/** The three messages of the sealed channel as bytes. All have one fixed length, so a peer cannot make a reader allocate. */
import { concatBytes } from './bytes.ts'
import { WireError } from './errors.ts'
import { KEY_BINDING_BYTES } from './key-binding.ts'
import { ML_DSA_87_SIGNATURE_BYTES } from './signatures.ts'

/** Version byte that opens the first two messages. */
const VERSION = 1
const NONCE_BYTES = 32
/** ML-KEM-768 encapsulation key (FIPS 203, table 3). */
const KEM_PUBLIC_BYTES = 1184
/** ML-KEM-768 ciphertext (FIPS 203, table 3). */
const KEM_CIPHERTEXT_BYTES = 1088
const TAG_BYTES = 32

/** Bytes of `hello`: version, nonce, ephemeral ML-KEM-768 key, key binding. */
export const SEAL_HELLO_BYTES: number = 1 + NONCE_BYTES + KEM_PUBLIC_BYTES + KEY_BINDING_BYTES
/** Bytes of the reply's part that is signed: version, nonce, ML-KEM-768 ciphertext, key binding. */
export const SEAL_REPLY_CORE_BYTES: number = 1 + NONCE_BYTES + KEM_CIPHERTEXT_BYTES + KEY_BINDING_BYTES
/** Bytes of `reply`: the signed part, ML-DSA-87 signature, key confirmation. */
export const SEAL_REPLY_BYTES: number = SEAL_REPLY_CORE_BYTES + ML_DSA_87_SIGNATURE_BYTES + TAG_BYTES
/** Bytes of `confirm`: ML-DSA-87 signature, key confirmation. */
export const SEAL_CONFIRM_BYTES: number = ML_DSA_87_SIGNATURE_BYTES + TAG_BYTES

/** `hello` (initiator to responder). */
export interface SealHello {
  readonly nonce: Uint8Array
  readonly kemPublicKey: Uint8Array
  readonly binding: Uint8Array
}

/** `reply` (responder to initiator), without its signature and confirmation. */
export interface SealReplyCore {
  readonly nonce: Uint8Array
  readonly kemCiphertext: Uint8Array
  readonly binding: Uint8Array
}

/** Proof of key: signature over the transcript and a MAC under a key derived from it. */
export interface SealProof {
  readonly signature: Uint8Array
  readonly tag: Uint8Array
}

/** Bytes of a `hello`. */
export function encodeHello(hello: SealHello): Uint8Array {
  return concatBytes(Uint8Array.of(VERSION), hello.nonce, hello.kemPublicKey, hello.binding)
}

/** Views into a `hello`. Throws `BAD_HANDSHAKE` on a wrong length or version. */
export function decodeHello(bytes: Uint8Array): SealHello {
  requireForm(bytes, SEAL_HELLO_BYTES, 'hello')
  const [, nonce, kemPublicKey, binding] = split(bytes, [1, NONCE_BYTES, KEM_PUBLIC_BYTES, KEY_BINDING_BYTES])
  return { nonce, kemPublicKey, binding }
}

/** Bytes of a `reply`'s signed part. */
export function encodeReplyCore(reply: SealReplyCore): Uint8Array {
  return concatBytes(Uint8Array.of(VERSION), reply.nonce, reply.kemCiphertext, reply.binding)
}

/** Views into a `reply`, its signed part as fields and as bytes. Throws `BAD_HANDSHAKE`. */
export function decodeReply(bytes: Uint8Array): {
  core: SealReplyCore
  coreBytes: Uint8Array
  proof: SealProof
} {
  requireForm(bytes, SEAL_REPLY_BYTES, 'reply')
  const coreBytes = bytes.subarray(0, SEAL_REPLY_CORE_BYTES)
  const [, nonce, kemCiphertext, binding] = split(coreBytes, [
    1,
    NONCE_BYTES,
    KEM_CIPHERTEXT_BYTES,
    KEY_BINDING_BYTES,
  ])
  return {
    core: { nonce, kemCiphertext, binding },
    coreBytes,
    proof: splitProof(bytes.subarray(SEAL_REPLY_CORE_BYTES)),
  }
}

/** Bytes of a proof, which is the whole of `confirm` and the end of `reply`. */
export function encodeProof(proof: SealProof): Uint8Array {
  return concatBytes(proof.signature, proof.tag)
}

/** Views into a `confirm`. Throws `BAD_HANDSHAKE` on a wrong length. */
export function decodeConfirm(bytes: Uint8Array): SealProof {
  requireBytes(bytes, SEAL_CONFIRM_BYTES, 'confirm')
  return splitProof(bytes)
}

function splitProof(bytes: Uint8Array): SealProof {
  const [, signature, tag] = split(bytes, [0, ML_DSA_87_SIGNATURE_BYTES, TAG_BYTES, 0])
  return { signature, tag }
}

function split(
  bytes: Uint8Array,
  lengths: readonly [number, number, number, number],
): [Uint8Array, Uint8Array, Uint8Array, Uint8Array] {
  let offset = 0
  const next = (length: number): Uint8Array => bytes.subarray(offset, (offset += length))
  return [next(lengths[0]), next(lengths[1]), next(lengths[2]), next(lengths[3])]
}

function requireForm(bytes: Uint8Array, length: number, what: string): void {
  requireBytes(bytes, length, what)
  if (bytes[0] !== VERSION) {
    throw new WireError('BAD_HANDSHAKE', `${what} has version ${bytes[0]}, expected ${VERSION}`)
  }
}

function requireBytes(bytes: Uint8Array, length: number, what: string): void {
  if (bytes.length !== length) {
    throw new WireError('BAD_HANDSHAKE', `${what} is ${bytes.length} bytes, expected ${length}`)
  }
}
