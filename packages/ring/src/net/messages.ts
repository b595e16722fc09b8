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
      messages.push(rest.slice(4, 4 + length))
      rest = rest.subarray(4 + length)
    }
    this.#pending = rest.slice()
    return messages
  }

  /** Bytes that came after the last complete message. */
  get rest(): Uint8Array {
    return this.#pending
  }
}

/** The prefix and the message, ready to send. */
export function frameMessage(message: Uint8Array): Uint8Array[] {
  const prefix = new Uint8Array(4)
  new DataView(prefix.buffer).setUint32(0, message.byteLength)
  return [prefix, message]
}

/** Reads messages one after another, as a handshake does. `release` gives the carrier back with what came after. */
export class MessageReader {
  readonly #carrier: Carrier
  readonly #splitter: MessageSplitter
  readonly #queue: Uint8Array[] = []
  #waiting: { resolve(message: Uint8Array): void; reject(reason: RingError): void } | null = null
  #failure: RingError | null = null

  constructor(carrier: Carrier, maxBytes: number) {
    this.#carrier = carrier
    this.#splitter = new MessageSplitter(maxBytes)
    carrier.onEnd((reason) => this.#fail(reason))
    carrier.receive((bytes) => this.#take(bytes))
  }

  /** The next message; rejects with the RingError that ended the carrier. */
  read(): Promise<Uint8Array> {
    const next = this.#queue.shift()
    if (next !== undefined) return Promise.resolve(next)
    if (this.#failure !== null) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
    })
  }

  /** Bytes received beyond the messages read; the caller now sets its own receiver. */
  release(): Uint8Array {
    return concat(...this.#queue.flatMap((message) => frameMessage(message)), this.#splitter.rest)
  }

  #take(bytes: Uint8Array): void {
    try {
      for (const message of this.#splitter.push(bytes)) {
        const waiting = this.#waiting
        this.#waiting = null
        if (waiting === null) this.#queue.push(message)
        else waiting.resolve(message)
      }
    } catch (thrown) {
      const reason = thrown instanceof RingError ? thrown : new RingError('BAD_MESSAGE', String(thrown))
      this.#fail(reason)
      this.#carrier.abort(reason)
    }
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
