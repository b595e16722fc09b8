/** A carrier moves bytes between two peers in order. What the bytes mean, and whether they are honest, is not its matter. */
import { RingError } from '../errors.ts'

/** Takes bytes as they come. */
export interface ByteSink {
  /**
   * Takes from the front of `bytes` what it can and returns how many; the rest comes again with more behind it. The
   * bytes are only valid during the call.
   */
  take(bytes: Uint8Array): number
  /** bytes from the front that would be useful together, for example the rest of a frame; only a hint */
  readonly hintBytes: number
}

/** One duplex pipe. Every implementation runs the suite in test/link.test.ts. */
export interface Carrier {
  readonly kind: 'stream' | 'direct'
  /** bytes accepted by `send` that have not left this process */
  readonly queuedBytes: number
  /**
   * Queues buffers in order; they must not change until `written` is called, or ever where it never is. False: wait for
   * `drained` before sending more.
   */
  send(buffers: readonly Uint8Array[], written?: () => void): boolean
  /** Resolves when more may be sent; rejects with the RingError that ended the carrier. */
  drained(): Promise<void>
  /** Hands over what arrives, beginning with what came before and was not taken. The last sink set gets it. */
  receive(sink: ByteSink | ((bytes: Uint8Array) => void)): void
  /** Called once when the carrier has ended, at once if it already has. The returned function unsubscribes. */
  onEnd(handler: (reason: RingError) => void): () => void
  /** Sends what is queued, then ends. */
  close(): Promise<void>
  /** Ends at once; `reason` is what `onEnd` reports here. */
  abort(reason: RingError): void
}

/** Bytes a carrier keeps that nobody has taken, beyond what the sink asked for: a handshake message or two. */
const MAX_WAITING_BYTES = 1024 * 1024

/** Least room offered to a read: what a loopback or a fast network delivers at once. */
const MIN_READ_BYTES = 64 * 1024

/** The parts of a carrier that do not depend on what it runs over: bytes not yet taken, and ending exactly once. */
export class CarrierInbox {
  #waiting = new Uint8Array(0)
  #start = 0
  #fill = 0
  #sink: ByteSink | null = null
  #end: RingError | null = null
  #endHandlers = new Set<(reason: RingError) => void>()

  get end(): RingError | null {
    return this.#end
  }

  /** Passes bytes on; keeps a copy of what is not taken. Returns the error that the carrier must be aborted with. */
  deliver(bytes: Uint8Array): RingError | null {
    if (this.#end !== null) return null
    let rest = bytes
    if (this.#start === this.#fill && this.#sink !== null) {
      rest = bytes.subarray(this.#sink.take(bytes))
      if (rest.byteLength === 0) return null
    }
    this.#makeRoom(rest.byteLength)
    this.#waiting.set(rest, this.#fill)
    this.#fill += rest.byteLength
    if (rest === bytes) this.#offer()
    return this.#flood()
  }

  /** Memory that the next bytes may be read into; it stays where it is until `arrived`. */
  room(): Uint8Array {
    const useful = (this.#sink?.hintBytes ?? 0) - (this.#fill - this.#start)
    const bytes = useful > 0 ? useful : MIN_READ_BYTES
    this.#makeRoom(bytes)
    return this.#waiting.subarray(this.#fill, this.#fill + bytes)
  }

  /** `count` bytes were read into what `room` gave. Returns the error that the carrier must be aborted with. */
  arrived(count: number): RingError | null {
    if (this.#end !== null) return null
    this.#fill += count
    this.#offer()
    return this.#flood()
  }

  receive(sink: ByteSink | ((bytes: Uint8Array) => void)): void {
    this.#sink = typeof sink === 'function' ? takeAll(sink) : sink
    this.#offer()
  }

  onEnd(handler: (reason: RingError) => void): () => void {
    if (this.#end !== null) {
      handler(this.#end)
      return () => undefined
    }
    this.#endHandlers.add(handler)
    return () => this.#endHandlers.delete(handler)
  }

  /** Marks the end; later calls change nothing. */
  finish(reason: RingError): void {
    if (this.#end !== null) return
    this.#end = reason
    this.#sink = null
    const handlers = this.#endHandlers
    this.#endHandlers = new Set()
    for (const handler of handlers) handler(reason)
  }

  #offer(): void {
    if (this.#sink === null || this.#start === this.#fill) return
    this.#start += this.#sink.take(this.#waiting.subarray(this.#start, this.#fill))
  }

  /** Moves what waits to the front, or to larger memory, so that `bytes` more fit behind it. */
  #makeRoom(bytes: number): void {
    const held = this.#fill - this.#start
    if (held === 0) this.#start = this.#fill = 0
    if (this.#fill + bytes <= this.#waiting.byteLength) return
    const source = this.#waiting.subarray(this.#start, this.#fill)
    // Twice as much each time: a peer that sends single bytes must not have each of them copy all the others.
    const roomy = Math.min(2 * this.#waiting.byteLength, MAX_WAITING_BYTES)
    if (held + bytes > this.#waiting.byteLength) this.#waiting = new Uint8Array(Math.max(held + bytes, roomy))
    this.#waiting.set(source)
    this.#start = 0
    this.#fill = held
  }

  #flood(): RingError | null {
    const held = this.#fill - this.#start
    if (held <= MAX_WAITING_BYTES || held <= (this.#sink?.hintBytes ?? 0)) return null
    return new RingError('PEER_FLOOD', `${held} bytes wait that nobody asked for, limit ${MAX_WAITING_BYTES}`)
  }
}

function takeAll(handler: (bytes: Uint8Array) => void): ByteSink {
  return {
    hintBytes: 0,
    take: (bytes) => {
      handler(bytes)
      return bytes.byteLength
    },
  }
}
