/** A carrier whose other end is the test: what is sent is kept, what arrives is handed in. */
import assert from 'node:assert/strict'
import type { RingError } from '../../src/errors.ts'
import { CarrierInbox, type ByteSink, type Carrier } from '../../src/net/carrier.ts'

export class MemoryCarrier implements Carrier {
  readonly kind: Carrier['kind']
  readonly queuedBytes = 0
  readonly sent: Uint8Array[] = []
  readonly #inbox = new CarrierInbox()
  readonly #unwritten: (() => void)[] = []

  /** What is sent is written at once on a stream, on a direct socket when the test says so. */
  constructor(kind: Carrier['kind'] = 'stream') {
    this.kind = kind
  }

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
    if (this.end !== null) return false
    const copies = buffers.map((buffer) => new Uint8Array(buffer))
    this.sent.push(...copies)
    this.#unwritten.push(() => {
      const isSame = buffers.every((buffer, i) => Buffer.compare(buffer, copies[i]) === 0)
      assert.ok(isSame || this.end !== null, 'memory of a frame changed before it was written')
      written?.()
    })
    if (this.kind === 'stream') this.write()
    return true
  }

  /** Writes what was sent first, or all of it. */
  write(count = this.#unwritten.length): void {
    for (const tell of this.#unwritten.splice(0, count)) tell()
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
