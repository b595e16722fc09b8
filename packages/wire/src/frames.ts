/**
 * Sealed frames: header || AES-256-GCM ciphertext || tag, the header as associated data. Frame n of a direction has
 * the nonce iv XOR n (RFC 8446, 5.3), so order is authenticated: a frame lost, repeated, moved or from the other
 * direction does not open. The counter is implicit, never sent, never reused; the key steps forward every 65536 frames.
 */
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto'
import { MAX_FRAMES_PER_DIRECTION, MAX_FRAME_PAYLOAD_BYTES } from './defaults.ts'
import { WireError } from './errors.ts'
import type { FrameHeader } from './frame-header.ts'
import { FRAME_TAG_BYTES, decodeFrameHeader, encodeFrameHeader } from './frame-header.ts'
import type { DirectionKey } from './seal-keys.ts'
import { keyGeneration, nextKey } from './seal-keys.ts'

const CIPHER = 'aes-256-gcm'
const OPTIONS = { authTagLength: FRAME_TAG_BYTES } as const
const EMPTY = new Uint8Array(0)

/** One direction's key, nonce and counter. Not exported from the package: two users of one key would repeat nonces. */
class KeyClock {
  readonly #iv: Uint8Array
  readonly #nonce: Buffer
  #key: Uint8Array
  /** the same key as Node wants it: from bytes it would make one for every frame, which costs as much as 64 KiB of AES */
  #keyObject: KeyObject
  #frame = 0

  constructor({ key, iv }: DirectionKey) {
    if (key.length !== 32 || iv.length !== 12) {
      throw new WireError(
        'BAD_ARGUMENT',
        `key is ${key.length} and iv ${iv.length} bytes, expected 32 and 12`,
      )
    }
    this.#key = Uint8Array.from(key)
    this.#keyObject = createSecretKey(this.#key)
    this.#iv = Uint8Array.from(iv)
    this.#nonce = Buffer.alloc(12)
  }

  /** Key and nonce of the next frame, each frame's once. Throws `KEY_EXHAUSTED`. */
  tick(): { key: KeyObject; nonce: Buffer } {
    const frame = this.#frame
    if (frame >= MAX_FRAMES_PER_DIRECTION) {
      throw new WireError('KEY_EXHAUSTED', `${frame} frames under one handshake, run a new one`)
    }
    if (frame > 0 && keyGeneration(frame) !== keyGeneration(frame - 1)) {
      const next = nextKey(this.#key, keyGeneration(frame))
      this.#key.fill(0)
      this.#key = next
      this.#keyObject = createSecretKey(next)
    }
    this.#frame = frame + 1
    this.#nonce.set(this.#iv)
    // The counter, as 48 bits big-endian, goes over the nonce's last six bytes.
    const high = this.#nonce.readUInt16BE(6) ^ Math.floor(frame / 2 ** 32)
    const low = (this.#nonce.readUInt32BE(8) ^ (frame % 2 ** 32)) >>> 0
    this.#nonce.writeUInt16BE(high, 6)
    this.#nonce.writeUInt32BE(low, 8)
    return { key: this.#keyObject, nonce: this.#nonce }
  }
}

/** Seals the frames of one direction, in the order they must be sent. */
export class FrameSealer {
  readonly #clock: KeyClock

  constructor(key: DirectionKey) {
    this.#clock = new KeyClock(key)
  }

  /**
   * Returns header, ciphertext and tag, to be written in that order: one pass, one new buffer of the payload's size,
   * `payload` untouched. Throws `BAD_ARGUMENT` on a field that does not fit, before a nonce is spent.
   */
  seal(header: Omit<FrameHeader, 'length'>, payload: Uint8Array): Uint8Array[] {
    const headerBytes = encodeFrameHeader({ ...header, length: payload.length })
    const { key, nonce } = this.#clock.tick()
    const cipher = createCipheriv(CIPHER, key, nonce, OPTIONS)
    cipher.setAAD(headerBytes)
    const ciphertext = cipher.update(payload)
    cipher.final()
    return [headerBytes, ciphertext, cipher.getAuthTag()]
  }
}

/** Opens the frames of one direction, in the order they were sealed. After one failure it opens nothing more. */
export class FrameOpener {
  readonly #clock: KeyClock
  readonly #maxPayloadBytes: number
  #isBroken = false

  constructor(key: DirectionKey, limits: { readonly maxPayloadBytes: number }) {
    this.#clock = new KeyClock(key)
    this.#maxPayloadBytes = Math.min(limits.maxPayloadBytes, MAX_FRAME_PAYLOAD_BYTES)
  }

  /** Parses a header so that the caller knows how much to read; throws before anything is allocated. Changes nothing. */
  readHeader(bytes: Uint8Array): FrameHeader {
    return decodeFrameHeader(bytes, this.#maxPayloadBytes)
  }

  /** The payload, in fresh memory. Throws `BAD_FRAME` if one bit differs from what was sealed; the channel is then over. */
  open(header: Uint8Array, ciphertext: Uint8Array, tag: Uint8Array): Uint8Array {
    if (this.#isBroken) throw new WireError('BAD_FRAME', 'this direction already failed, close the channel')
    this.#isBroken = true
    const { length } = this.readHeader(header)
    if (ciphertext.length !== length || tag.length !== FRAME_TAG_BYTES) {
      throw new WireError(
        'BAD_FRAME',
        `frame has ${ciphertext.length} + ${tag.length} bytes, its header says ${length} + ${FRAME_TAG_BYTES}`,
      )
    }
    const { key, nonce } = this.#clock.tick()
    const decipher = createDecipheriv(CIPHER, key, nonce, OPTIONS)
    decipher.setAAD(header)
    decipher.setAuthTag(tag)
    const payload = length === 0 ? EMPTY : decipher.update(ciphertext)
    try {
      decipher.final()
    } catch (cause) {
      throw new WireError('BAD_FRAME', 'frame tag does not verify: altered, repeated, lost or out of order', {
        cause,
      })
    }
    this.#isBroken = false
    return payload
  }
}
