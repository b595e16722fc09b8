/**
 * Sealed frames: header || AES-256-GCM ciphertext || tag, the header as associated data. Frame n of a direction has
 * the nonce iv XOR n (RFC 8446, 5.3), so order is authenticated: a frame lost, repeated, moved or from the other
 * direction does not open. The counter is implicit, never sent, never reused; the key steps forward every 65536 frames.
 */
import type { Open, Seal } from './aead.ts'
import { aeadEngine } from './aead-engine.ts'
import { requireLength } from './bytes.ts'
import { MAX_FRAMES_PER_DIRECTION, MAX_FRAME_PAYLOAD_BYTES } from './defaults.ts'
import { WireError } from './errors.ts'
import type { FrameHeader } from './frame-header.ts'
import { FRAME_HEADER_BYTES, FRAME_TAG_BYTES, decodeFrameHeader, encodeFrameHeader } from './frame-header.ts'
import type { DirectionKey } from './seal-keys.ts'
import { keyGeneration, nextKey } from './seal-keys.ts'

/** One direction's key, nonce and counter. Not exported from the package: two users of one key would repeat nonces. */
class KeyClock<Use> {
  readonly #use: (key: Uint8Array) => Use
  readonly #iv: Uint8Array
  readonly #nonce: Buffer
  #key: Uint8Array
  #keyed: Use
  #frame = 0

  constructor({ key, iv }: DirectionKey, use: (key: Uint8Array) => Use) {
    if (key.length !== 32 || iv.length !== 12) {
      throw new WireError(
        'BAD_ARGUMENT',
        `key is ${key.length} and iv ${iv.length} bytes, expected 32 and 12`,
      )
    }
    this.#use = use
    this.#key = Uint8Array.from(key)
    this.#keyed = use(this.#key)
    this.#iv = Uint8Array.from(iv)
    this.#nonce = Buffer.alloc(12)
  }

  /** What to use for the next frame, and its nonce, each once. Throws `KEY_EXHAUSTED`. */
  tick(): { keyed: Use; nonce: Buffer } {
    const frame = this.#frame
    if (frame >= MAX_FRAMES_PER_DIRECTION) {
      throw new WireError('KEY_EXHAUSTED', `${frame} frames under one handshake, run a new one`)
    }
    if (frame > 0 && keyGeneration(frame) !== keyGeneration(frame - 1)) {
      const next = nextKey(this.#key, keyGeneration(frame))
      this.#key.fill(0)
      this.#key = next
      this.#keyed = this.#use(next)
    }
    this.#frame = frame + 1
    this.#nonce.set(this.#iv)
    // The counter, as 48 bits big-endian, goes over the nonce's last six bytes.
    const high = this.#nonce.readUInt16BE(6) ^ Math.floor(frame / 2 ** 32)
    const low = (this.#nonce.readUInt32BE(8) ^ (frame % 2 ** 32)) >>> 0
    this.#nonce.writeUInt16BE(high, 6)
    this.#nonce.writeUInt32BE(low, 8)
    return { keyed: this.#keyed, nonce: this.#nonce }
  }
}

/** Bytes of a frame with a payload of `payloadBytes`. */
export function frameBytes(payloadBytes: number): number {
  return FRAME_HEADER_BYTES + payloadBytes + FRAME_TAG_BYTES
}

/** Seals the frames of one direction, in the order they must be sent. */
export class FrameSealer {
  readonly #clock: KeyClock<Seal>

  constructor(key: DirectionKey) {
    this.#clock = new KeyClock(key, (bytes) => aeadEngine().sealer(bytes))
  }

  /**
   * Returns the frame: header, ciphertext, tag. It lies in fresh memory and `payload` stays as it is, or in `room`, which
   * has `frameBytes(payload.length)`; `payload` then lies elsewhere, or in `room` where its ciphertext comes. Throws
   * `BAD_ARGUMENT` on a field or a room that does not fit, before a nonce is spent.
   */
  seal(header: Omit<FrameHeader, 'length'>, payload: Uint8Array, room?: Uint8Array): Uint8Array {
    const headerBytes = encodeFrameHeader({ ...header, length: payload.length })
    const frame = room ?? Buffer.allocUnsafeSlow(frameBytes(payload.length))
    requireLength(frame, frameBytes(payload.length), 'room for the frame')
    const { keyed, nonce } = this.#clock.tick()
    frame.set(headerBytes)
    keyed(nonce, headerBytes, payload, frame.subarray(FRAME_HEADER_BYTES))
    return frame
  }
}

/** Opens the frames of one direction, in the order they were sealed. After one failure it opens nothing more. */
export class FrameOpener {
  readonly #clock: KeyClock<Open>
  readonly #maxPayloadBytes: number
  #isBroken = false

  constructor(key: DirectionKey, limits: { readonly maxPayloadBytes: number }) {
    this.#clock = new KeyClock(key, (bytes) => aeadEngine().opener(bytes))
    this.#maxPayloadBytes = Math.min(limits.maxPayloadBytes, MAX_FRAME_PAYLOAD_BYTES)
  }

  /** Parses a header so that the caller knows how much to read; throws before anything is allocated. Changes nothing. */
  readHeader(bytes: Uint8Array): FrameHeader {
    return decodeFrameHeader(bytes, this.#maxPayloadBytes)
  }

  /**
   * The payload, in `room`, which has as many bytes and shares none with `frame`, or in fresh memory. Throws `BAD_FRAME`
   * if one bit differs from what was sealed; the channel is then over, and `room` may hold anything.
   */
  open(frame: Uint8Array, room?: Uint8Array): Uint8Array {
    if (this.#isBroken) throw new WireError('BAD_FRAME', 'this direction already failed, close the channel')
    this.#isBroken = true
    const header = frame.subarray(0, FRAME_HEADER_BYTES)
    const { length } = this.readHeader(header)
    if (frame.length !== frameBytes(length)) {
      throw new WireError('BAD_FRAME', `frame has ${frame.length} bytes, expected ${frameBytes(length)}`)
    }
    const payload = room ?? Buffer.allocUnsafeSlow(length)
    requireLength(payload, length, 'room for the payload')
    const { keyed, nonce } = this.#clock.tick()
    if (!keyed(nonce, header, frame.subarray(FRAME_HEADER_BYTES), payload)) {
      throw new WireError('BAD_FRAME', 'frame tag does not verify: altered, repeated, lost or out of order')
    }
    this.#isBroken = false
    return payload
  }
}
