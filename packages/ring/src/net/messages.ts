/** Length-prefixed messages over a carrier: u32 big-endian length, then that many bytes, never more than the limit. */
import { RingError } from '../errors.ts'
import type { ByteSink, Carrier } from './carrier.ts'

/** The length in front of a message. */
const PREFIX_BYTES = 4

/**
 * Cuts a byte stream into messages, each handed over as soon as it is whole; its bytes are only valid during the call.
 * What is there of a message waits in the carrier, so that one that comes byte by byte costs no more than another.
 */
export class MessageSink implements ByteSink {
  hintBytes = PREFIX_BYTES
  readonly #maxBytes: number
  readonly #onMessage: (message: Uint8Array) => void

  constructor(maxBytes: number, onMessage: (message: Uint8Array) => void) {
    this.#maxBytes = maxBytes
    this.#onMessage = onMessage
  }

  /** Throws RingError BAD_MESSAGE before anything over the limit is kept, and whatever `onMessage` throws. */
  take(bytes: Uint8Array): number {
    let at = 0
    while (bytes.byteLength - at >= PREFIX_BYTES) {
      const length = new DataView(bytes.buffer, bytes.byteOffset + at, PREFIX_BYTES).getUint32(0)
      if (length > this.#maxBytes) {
        throw new RingError('BAD_MESSAGE', `message is ${length} bytes, limit ${this.#maxBytes}`)
      }
      this.hintBytes = PREFIX_BYTES + length
      if (bytes.byteLength - at < this.hintBytes) break
      const from = at + PREFIX_BYTES
      at += this.hintBytes
      this.hintBytes = PREFIX_BYTES
      this.#onMessage(bytes.subarray(from, at))
    }
    return at
  }
}

/** The prefix and the message, ready to send. */
export function frameMessage(message: Uint8Array): Uint8Array[] {
  const prefix = new Uint8Array(4)
  new DataView(prefix.buffer).setUint32(0, message.byteLength)
  return [prefix, message]
}

/** Reads messages one after another, as a handshake does. What follows the last one read stays in the carrier. */
export class MessageReader implements ByteSink {
  readonly hintBytes: number
  readonly #carrier: Carrier
  #waiting: PromiseWithResolvers<Uint8Array> | null = null
  #failure: RingError | null = null

  constructor(carrier: Carrier, maxBytes: number) {
    this.#carrier = carrier
    this.hintBytes = 4 + maxBytes
    carrier.onEnd((reason) => this.#fail(reason))
  }

  /** The next message; rejects with the RingError that ended the carrier. One read at a time. */
  read(): Promise<Uint8Array> {
    const waiting = Promise.withResolvers<Uint8Array>()
    this.#waiting = waiting
    if (this.#failure !== null) waiting.reject(this.#failure)
    else this.#carrier.receive(this)
    return waiting.promise
  }

  /** Takes one message for the waiting read, and nothing that follows it: that may be frames. */
  take(bytes: Uint8Array): number {
    if (this.#waiting === null || bytes.byteLength < 4) return 0
    const length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0)
    if (4 + length > this.hintBytes) {
      const limit = this.hintBytes - 4
      this.#end(new RingError('BAD_MESSAGE', `handshake message is ${length} bytes, limit ${limit}`))
      return 0
    }
    if (bytes.byteLength < 4 + length) return 0
    const waiting = this.#waiting
    this.#waiting = null
    waiting.resolve(new Uint8Array(bytes.subarray(4, 4 + length)))
    return 4 + length
  }

  #end(reason: RingError): void {
    this.#fail(reason)
    this.#carrier.abort(reason)
  }

  #fail(reason: RingError): void {
    this.#failure ??= reason
    this.#waiting?.reject(this.#failure)
    this.#waiting = null
  }
}
