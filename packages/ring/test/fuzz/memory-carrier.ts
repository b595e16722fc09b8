/** A carrier whose other end is the test: what is sent is kept, what arrives is handed in. */
import type { RingError } from '../../src/errors.ts'
import { CarrierInbox, type ByteSink, type Carrier } from '../../src/net/carrier.ts'

export class MemoryCarrier implements Carrier {
  readonly kind = 'stream'
  readonly queuedBytes = 0
  readonly sent: Uint8Array[] = []
  readonly #inbox = new CarrierInbox()

  /** Why it ended, null while it lives. */
  get end(): RingError | null {
    return this.#inbox.end
  }

  /** Bytes from the peer. */
  arrive(bytes: Uint8Array): void {
    const error = this.#inbox.deliver(bytes)
    if (error !== null) this.abort(error)
  }

  send(buffers: readonly Uint8Array[], written?: () => void): boolean {
    for (const buffer of buffers) this.sent.push(new Uint8Array(buffer))
    written?.()
    return true
  }

  drained(): Promise<void> {
    return Promise.resolve()
  }

  receive(sink: ByteSink | ((bytes: Uint8Array) => void)): void {
    this.#inbox.receive(sink)
  }

  onEnd(handler: (reason: RingError) => void): () => void {
    return this.#inbox.onEnd(handler)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  abort(reason: RingError): void {
    this.#inbox.finish(reason)
  }
}
