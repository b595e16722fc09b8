/** Key schedule of the sealed channel: HKDF-SHA-256 (RFC 5869) over the ML-KEM secret, salted with the transcript. */
import { createHmac, hkdfSync } from 'node:crypto'
import { concatBytes, utf8 } from './bytes.ts'
import { REKEY_FRAMES } from './defaults.ts'

/** AES-256-GCM key and nonce base of one direction. Give it to exactly one `FrameSealer` or `FrameOpener`. */
export interface DirectionKey {
  /** 32 bytes. */
  readonly key: Uint8Array
  /** 12 bytes; a frame's nonce is this XOR its number. */
  readonly iv: Uint8Array
}

/** The two directions as one end sees them: its `send` is the peer's `receive`. */
export interface SealedKeys {
  readonly send: DirectionKey
  readonly receive: DirectionKey
}

/** All that one handshake derives. */
export interface SealSchedule {
  readonly initiatorToResponder: DirectionKey
  readonly responderToInitiator: DirectionKey
  readonly initiatorConfirmKey: Uint8Array
  readonly responderConfirmKey: Uint8Array
}

const INFO = utf8('gym-seal-v1 keys')
const REKEY_INFO = utf8('gym-seal-v1 rekey')
const KEY_BYTES = 32
const IV_BYTES = 12

/**
 * Keys of a handshake. `secret` is the ML-KEM shared secret (IKM), `transcript` the SHA3-256 over context, hello and
 * reply core (salt): other identities, epoch, roles, KEM key or ciphertext give unrelated keys.
 */
export function deriveSchedule(secret: Uint8Array, transcript: Uint8Array): SealSchedule {
  const okm = new Uint8Array(
    hkdfSync('sha256', secret, transcript, INFO, 2 * (KEY_BYTES + IV_BYTES) + 2 * KEY_BYTES),
  )
  let offset = 0
  const next = (length: number): Uint8Array => okm.slice(offset, (offset += length))
  const schedule = {
    initiatorToResponder: { key: next(KEY_BYTES), iv: next(IV_BYTES) },
    responderToInitiator: { key: next(KEY_BYTES), iv: next(IV_BYTES) },
    initiatorConfirmKey: next(KEY_BYTES),
    responderConfirmKey: next(KEY_BYTES),
  }
  okm.fill(0)
  return schedule
}

/** The next key of a direction after `REKEY_FRAMES` frames. One way: the old key does not follow from the new one. */
export function nextKey(key: Uint8Array, generation: number): Uint8Array {
  const salt = Buffer.alloc(8)
  salt.writeBigUInt64LE(BigInt(generation))
  return new Uint8Array(hkdfSync('sha256', key, salt, REKEY_INFO, KEY_BYTES))
}

/** Which key generation seals frame `frame`. */
export function keyGeneration(frame: number): number {
  return Math.floor(frame / REKEY_FRAMES)
}

/** Key confirmation: HMAC-SHA-256 over the transcript and the signature beside it. */
export function confirmationTag(key: Uint8Array, transcript: Uint8Array, signature: Uint8Array): Uint8Array {
  return createHmac('sha256', key).update(concatBytes(transcript, signature)).digest()
}
