/** Length-prefixed messages over a carrier: u32 big-endian length, then that many bytes, never more than the limit. */
import { RingError } from '../errors.ts'
import type { Carrier } from './carrier.ts'

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

/** Bytes that may wait behind a handshake message: what a peer sends right after it counts already as link traffic. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024

/** Reads messages one after another, as a handshake does. `release` gives the carrier back with what came after. */
export class MessageReader {
  readonly #carrier: Carrier
  readonly #maxBytes: number
  #bytes: Uint8Array = new Uint8Array(0)
  #waiting: PromiseWithResolvers<Uint8Array> | null = null
  #failure: RingError | null = null

  constructor(carrier: Carrier, maxBytes: number) {
    this.#carrier = carrier
    this.#maxBytes = maxBytes
    carrier.onEnd((reason) => this.#fail(reason))
    carrier.receive((bytes) => this.#take(bytes))
  }

  /** The next message; rejects with the RingError that ended the carrier. One read at a time. */
  read(): Promise<Uint8Array> {
    const waiting = Promise.withResolvers<Uint8Array>()
    this.#waiting = waiting
    this.#serve()
    if (this.#failure !== null) waiting.reject(this.#failure)
    return waiting.promise
  }

  /** Bytes received beyond the messages read; the caller now sets its own receiver. */
  release(): Uint8Array {
    return this.#bytes
  }

  #take(bytes: Uint8Array): void {
    if (this.#bytes.byteLength + bytes.byteLength > MAX_WAITING_BYTES) {
      this.#end(new RingError('PEER_FLOOD', `over ${MAX_WAITING_BYTES} bytes came inside a handshake`))
      return
    }
    this.#bytes = concat(this.#bytes, bytes)
    this.#serve()
  }

  /** Hands the next message to the waiting read. What follows it may be frames, so it is not looked at. */
  #serve(): void {
    if (this.#waiting === null || this.#bytes.byteLength < 4) return
    const { buffer, byteOffset } = this.#bytes
    const length = new DataView(buffer, byteOffset, 4).getUint32(0)
    if (length > this.#maxBytes) {
      this.#end(new RingError('BAD_MESSAGE', `handshake message is ${length} bytes, limit ${this.#maxBytes}`))
      return
    }
    if (this.#bytes.byteLength < 4 + length) return
    const message = this.#bytes.subarray(4, 4 + length)
    this.#bytes = this.#bytes.subarray(4 + length)
    const waiting = this.#waiting
    this.#waiting = null
    waiting.resolve(message)
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
