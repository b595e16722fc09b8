/** A carrier moves bytes between two peers in order. What the bytes mean, and whether they are honest, is not its matter. */
import type { RingError } from '../errors.ts'

/** One duplex pipe. Every implementation runs the suite in test/carrier-compliance.ts. */
export interface Carrier {
  readonly kind: 'stream' | 'direct'
  /** bytes accepted by `send` that have not left this process */
  readonly queuedBytes: number
  /** Queues buffers in order; they must not change afterwards. False: wait for `drained` before sending more. */
  send(buffers: readonly Uint8Array[]): boolean
  /** Resolves when more may be sent; rejects with the RingError that ended the carrier. */
  drained(): Promise<void>
  /** Hands over what arrives, beginning with what came before; the bytes are only valid during the call. */
  receive(handler: (bytes: Uint8Array) => void): void
  /** Called once when the carrier has ended, at once if it already has. */
  onEnd(handler: (reason: RingError) => void): void
  /** Sends what is queued, then ends. */
  close(): Promise<void>
  /** Ends at once; `reason` is what `onEnd` reports here. */
  abort(reason: RingError): void
}

/** The parts of a carrier that do not depend on what it runs over: early bytes, and ending exactly once. */
export class CarrierInbox {
  readonly #maxEarlyBytes: number
  #early: Uint8Array[] = []
  #earlyBytes = 0
  #handler: ((bytes: Uint8Array) => void) | null = null
  #end: RingError | null = null
  #endHandlers: ((reason: RingError) => void)[] = []

  constructor(maxEarlyBytes: number) {
    this.#maxEarlyBytes = maxEarlyBytes
  }

  get end(): RingError | null {
    return this.#end
  }

  /** Passes bytes on, or keeps a copy until somebody listens. False when more came early than is allowed. */
  deliver(bytes: Uint8Array): boolean {
    if (this.#end !== null) return true
    if (this.#handler !== null) {
      this.#handler(bytes)
      return true
    }
    this.#earlyBytes += bytes.byteLength
    if (this.#earlyBytes > this.#maxEarlyBytes) return false
    this.#early.push(new Uint8Array(bytes))
    return true
  }

  receive(handler: (bytes: Uint8Array) => void): void {
    this.#handler = handler
    const early = this.#early
    this.#early = []
    this.#earlyBytes = 0
    for (const bytes of early) {
      if (this.#end === null) this.#handler(bytes)
    }
  }

  onEnd(handler: (reason: RingError) => void): void {
    if (this.#end !== null) handler(this.#end)
    else this.#endHandlers.push(handler)
  }

  /** Marks the end; later calls change nothing. */
  finish(reason: RingError): void {
    if (this.#end !== null) return
    this.#end = reason
    this.#early = []
    const handlers = this.#endHandlers
    this.#endHandlers = []
    for (const handler of handlers) handler(reason)
  }
}
