/**
 * Key binding: the Ed25519 identity and the ML-DSA-87 key each sign the other, so that neither can be claimed by a
 * holder of the other alone. It travels in handshakes, views and DELTA metadata.
 */
import { concatBytes, utf8 } from './bytes.ts'
import { WireError } from './errors.ts'
import { publicKeyBytes } from './native-keys.ts'
import { peerIdFromEd25519 } from './peer-id.ts'
import {
  ED25519_SIGNATURE_BYTES,
  ML_DSA_87_SIGNATURE_BYTES,
  verifyEd25519,
  verifyMlDsa87,
} from './signatures.ts'

/** The public half of an identity, after its binding was verified. */
export interface PublicIdentity {
  readonly peerId: string
  /** 32 bytes. */
  readonly ed25519PublicKey: Uint8Array
  /** 2592 bytes. */
  readonly mlDsa87PublicKey: Uint8Array
}

/** Two keys and the signature of each over the other. */
export interface KeyBinding {
  readonly ed25519PublicKey: Uint8Array
  readonly mlDsa87PublicKey: Uint8Array
  /** Ed25519, over `"gym-binding-v1\0" || mlDsa87PublicKey`. */
  readonly ed25519Signature: Uint8Array
  /** ML-DSA-87, over `"gym-binding-v1\0" || ed25519PublicKey`. */
  readonly mlDsa87Signature: Uint8Array
}

const LABEL = utf8('gym-binding-v1\0')
const VERSION = 1
const FIELD_BYTES = [
  publicKeyBytes('ed25519'),
  publicKeyBytes('ml-dsa-87'),
  ED25519_SIGNATURE_BYTES,
  ML_DSA_87_SIGNATURE_BYTES,
] as const

/** Bytes of an encoded binding: version 1, then the four fields in the order of `KeyBinding`. */
export const KEY_BINDING_BYTES: number = 1 + FIELD_BYTES.reduce((sum, bytes) => sum + bytes, 0)

/** What each key signs: the label, so that no signature made elsewhere fits here, and the other key. */
export function keyBindingMessage(otherPublicKey: Uint8Array): Uint8Array {
  return concatBytes(LABEL, otherPublicKey)
}

/** Fixed-length encoding, `KEY_BINDING_BYTES` bytes. Throws `BAD_ARGUMENT` on a field of the wrong length. */
export function encodeKeyBinding(binding: KeyBinding): Uint8Array {
  const fields = [
    binding.ed25519PublicKey,
    binding.mlDsa87PublicKey,
    binding.ed25519Signature,
    binding.mlDsa87Signature,
  ]
  fields.forEach((field, i) => {
    if (field.length !== FIELD_BYTES[i]) {
      throw new WireError(
        'BAD_ARGUMENT',
        `key binding field ${i} is ${field.length} bytes, expected ${FIELD_BYTES[i]}`,
      )
    }
  })
  return concatBytes(Uint8Array.of(VERSION), ...fields)
}

/** Reads an encoded binding into fresh memory; it proves nothing until `verifyKeyBinding`. Throws `BAD_KEY`. */
export function decodeKeyBinding(bytes: Uint8Array): KeyBinding {
  if (bytes.length !== KEY_BINDING_BYTES) {
    throw new WireError('BAD_KEY', `key binding is ${bytes.length} bytes, expected ${KEY_BINDING_BYTES}`)
  }
  if (bytes[0] !== VERSION) {
    throw new WireError('BAD_KEY', `key binding has version ${bytes[0]}, expected ${VERSION}`)
  }
  let offset = 1
  const next = (length: number): Uint8Array => new Uint8Array(bytes.subarray(offset, (offset += length)))
  return {
    ed25519PublicKey: next(FIELD_BYTES[0]),
    mlDsa87PublicKey: next(FIELD_BYTES[1]),
    ed25519Signature: next(FIELD_BYTES[2]),
    mlDsa87Signature: next(FIELD_BYTES[3]),
  }
}

/** Checks both signatures and returns whom they bind. Throws `BAD_SIGNATURE` when either does not verify. */
export function verifyKeyBinding(binding: KeyBinding): PublicIdentity {
  const { ed25519PublicKey, mlDsa87PublicKey } = binding
  if (!verifyEd25519(ed25519PublicKey, keyBindingMessage(mlDsa87PublicKey), binding.ed25519Signature)) {
    throw new WireError('BAD_SIGNATURE', 'the Ed25519 key has not signed the ML-DSA-87 key of this binding')
  }
  if (!verifyMlDsa87(mlDsa87PublicKey, keyBindingMessage(ed25519PublicKey), binding.mlDsa87Signature)) {
    throw new WireError('BAD_SIGNATURE', 'the ML-DSA-87 key has not signed the Ed25519 key of this binding')
  }
  return { peerId: peerIdFromEd25519(ed25519PublicKey), ed25519PublicKey, mlDsa87PublicKey }
}
