/** Length-prefixed messages over a carrier: u32 big-endian length, then that many bytes, never more than the limit. */
import { RingError } from '../errors.ts'
import type { ByteSink, Carrier } from './carrier.ts'

/** Cuts a byte stream into messages. Throws RingError BAD_MESSAGE before anything over the limit is allocated. */
export class MessageSplitter {
  readonly #maxBytes: number
  #pending = new Uint8Array(0)

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Adds bytes; returns the messages that are now complete. */
  push(bytes: Uint8Array): Uint8Array[] {
    const messages: Uint8Array[] = []
    let rest = this.#pending.byteLength === 0 ? bytes : concat(this.#pending, bytes)
    while (rest.byteLength >= 4) {
      const length = new DataView(rest.buffer, rest.byteOffset, 4).getUint32(0)
      if (length > this.#maxBytes) {
        throw new RingError('BAD_MESSAGE', `message is ${length} bytes, limit ${this.#maxBytes}`)
      }
      if (rest.byteLength < 4 + length) break
      messages.push(new Uint8Array(rest.subarray(4, 4 + length)))
      rest = rest.subarray(4 + length)
    }
    // A copy: Buffer.slice would only be a view of bytes that are not ours.
    this.#pending = new Uint8Array(rest)
    return messages
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

function concat(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.byteLength
  }
  return whole
}
