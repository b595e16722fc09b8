/** One control stream to one peer: bounded JSON messages, checked against their schema, at a bounded rate. */
import type { z } from 'zod'
import type { RingLimits } from '../defaults.ts'
import { RingError } from '../errors.ts'
import { Allowance } from './allowance.ts'
import type { ByteSink, Carrier } from './carrier.ts'
import { frameMessage, MessageSink } from './messages.ts'
import { controlSchema, helloSchema, type ControlMessage, type Hello } from './peer-messages.ts'

/** What a channel reports. `onHello` comes first and once. */
export interface ControlHandlers {
  onHello(hello: Hello): void
  onMessage(message: ControlMessage): void
  /** the channel is over; `reason.code` says whether the peer misbehaved */
  onEnd(reason: RingError): void
}

/** A peer that breaks the rules ends its channel with a named error; nothing it sends reaches the caller unchecked. */
export class ControlChannel implements ByteSink {
  readonly peer: string
  bytesSent = 0
  bytesReceived = 0
  /** when bytes came last, by `performance.now` */
  heardAt = performance.now()
  readonly #carrier: Carrier
  readonly #limits: RingLimits
  readonly #handlers: ControlHandlers
  readonly #sink: MessageSink
  readonly #messages: Allowance
  readonly #bytes: Allowance
  #hello = false
  #ended = false

  constructor(carrier: Carrier, peer: string, limits: RingLimits, handlers: ControlHandlers) {
    this.peer = peer
    this.#carrier = carrier
    this.#limits = limits
    this.#handlers = handlers
    this.#sink = new MessageSink(limits.controlMessageBytes, (message) => this.#dispatch(message))
    this.#messages = new Allowance(limits.controlMessagesPerSecond, limits.controlBurst)
    this.#bytes = new Allowance(limits.controlBytesPerSecond, limits.controlBurstBytes)
    carrier.onEnd((reason) => {
      this.#ended = true
      handlers.onEnd(reason)
    })
    carrier.receive(this)
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

  get hintBytes(): number {
    return this.#sink.hintBytes
  }

  /** For the carrier: reads the messages that are whole. */
  take(bytes: Uint8Array): number {
    this.heardAt = performance.now()
    try {
      const taken = this.#sink.take(bytes)
      this.bytesReceived += taken
      return taken
    } catch (thrown) {
      if (!(thrown instanceof RingError)) throw thrown
      this.abort(thrown)
      return bytes.byteLength
    }
  }

  #dispatch(bytes: Uint8Array): void {
    // What came together with the message that ended the channel is not heard any more.
    if (this.#ended) return
    this.#spend(bytes.byteLength)
    const value = parseJson(bytes, this.peer)
    if (!this.#hello) {
      this.#hello = true
      this.#handlers.onHello(checked(helloSchema, value, this.peer))
      return
    }
    this.#handlers.onMessage(checked(controlSchema, value, this.peer))
  }

  /** Before a message is read: reading costs more than sending it. */
  #spend(bytes: number): void {
    const now = performance.now()
    const { controlMessagesPerSecond, controlBytesPerSecond } = this.#limits
    const tooMuch = !this.#messages.spend(1, now)
      ? `${controlMessagesPerSecond} messages`
      : !this.#bytes.spend(bytes, now)
        ? `${controlBytesPerSecond} bytes of messages`
        : null
    if (tooMuch === null) return
    throw new RingError('PEER_FLOOD', `peer sends more than ${tooMuch} a second`, { peer: this.peer })
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
