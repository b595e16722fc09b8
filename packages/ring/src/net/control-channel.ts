/** One control stream to one peer: bounded JSON messages, checked against their schema, at a bounded rate. */
import type { z } from 'zod'
import type { RingLimits } from '../defaults.ts'
import { RingError } from '../errors.ts'
import type { Carrier } from './carrier.ts'
import { frameMessage, MessageSplitter } from './messages.ts'
import { controlSchema, helloSchema, type ControlMessage, type Hello } from './peer-messages.ts'

/** What a channel reports. `onHello` comes first and once. */
export interface ControlHandlers {
  onHello(hello: Hello): void
  onMessage(message: ControlMessage): void
  /** the channel is over; `reason.code` says whether the peer misbehaved */
  onEnd(reason: RingError): void
}

/** A peer that breaks the rules ends its channel with a named error; nothing it sends reaches the caller unchecked. */
export class ControlChannel {
  readonly peer: string
  bytesSent = 0
  bytesReceived = 0
  /** when bytes came last, by `performance.now` */
  heardAt = performance.now()
  readonly #carrier: Carrier
  readonly #limits: RingLimits
  readonly #handlers: ControlHandlers
  readonly #splitter: MessageSplitter
  #hello = false
  #tokens: number
  #refilledAt = performance.now()

  constructor(carrier: Carrier, peer: string, limits: RingLimits, handlers: ControlHandlers) {
    this.peer = peer
    this.#carrier = carrier
    this.#limits = limits
    this.#handlers = handlers
    this.#splitter = new MessageSplitter(limits.controlMessageBytes)
    this.#tokens = limits.controlBurst
    carrier.onEnd((reason) => handlers.onEnd(reason))
    carrier.receive((bytes) => this.#take(bytes))
  }

  /** Queues a message. A peer that does not read ends its channel instead of filling memory. */
  send(message: Hello | ControlMessage): void {
    const bytes = new TextEncoder().encode(JSON.stringify(message))
    if (this.#carrier.queuedBytes + bytes.byteLength > this.#limits.controlQueueBytes) {
      const limit = this.#limits.controlQueueBytes
      this.abort(new RingError('PEER_LOST', `over ${limit} bytes wait for this peer`, { peer: this.peer }))
      return
    }
    this.bytesSent += bytes.byteLength + 4
    this.#carrier.send(frameMessage(bytes))
  }

  close(): Promise<void> {
    return this.#carrier.close()
  }

  abort(reason: RingError): void {
    this.#carrier.abort(reason)
  }

  #take(bytes: Uint8Array): void {
    this.bytesReceived += bytes.byteLength
    this.heardAt = performance.now()
    try {
      for (const message of this.#splitter.push(bytes)) this.#dispatch(message)
    } catch (thrown) {
      if (!(thrown instanceof RingError)) throw thrown
      this.abort(thrown)
    }
  }

  #dispatch(bytes: Uint8Array): void {
    this.#spendToken()
    const value = parseJson(bytes, this.peer)
    if (!this.#hello) {
      this.#hello = true
      this.#handlers.onHello(checked(helloSchema, value, this.peer))
      return
    }
    this.#handlers.onMessage(checked(controlSchema, value, this.peer))
  }

  #spendToken(): void {
    const now = performance.now()
    const refill = ((now - this.#refilledAt) / 1000) * this.#limits.controlMessagesPerSecond
    this.#tokens = Math.min(this.#limits.controlBurst, this.#tokens + refill)
    this.#refilledAt = now
    if (this.#tokens < 1) {
      const limit = this.#limits.controlMessagesPerSecond
      throw new RingError('PEER_FLOOD', `peer sends more than ${limit} messages a second`, {
        peer: this.peer,
      })
    }
    this.#tokens -= 1
  }
}

function parseJson(bytes: Uint8Array, peer: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw new RingError('BAD_MESSAGE', `message of ${bytes.byteLength} bytes is not JSON`, { cause, peer })
  }
}

function checked<T>(schema: z.ZodType<T>, value: unknown, peer: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const where = issue === undefined ? '' : `${issue.path.join('.')}: ${issue.message}`
  throw new RingError('BAD_MESSAGE', `message does not fit its schema at ${where}`, { peer })
}
