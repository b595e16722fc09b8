/** A carrier over a libp2p stream: works wherever a connection does, through relays and NAT. */
import type { Stream } from '@libp2p/interface'
import { RingError } from '../errors.ts'
import type { ByteSink, Carrier } from './carrier.ts'
import { CarrierInbox } from './carrier.ts'
import { giveBack } from '@gym-node/wire'
import { whenEncrypted } from './noise-memory.ts'
import { updateWindowSparingly } from './stream-window.ts'

/** Wraps an open libp2p stream. The stream belongs to the carrier from here on. */
export class StreamCarrier implements Carrier {
  readonly kind = 'stream'
  readonly #stream: Stream
  readonly #inbox = new CarrierInbox()

  constructor(stream: Stream) {
    this.#stream = stream
    updateWindowSparingly(stream)
    stream.addEventListener('message', (event) => {
      const parts = event.data instanceof Uint8Array ? [event.data] : event.data
      for (const part of parts) {
        const refusal = this.#inbox.deliver(part)
        if (refusal !== null) {
          this.abort(refusal)
          return
        }
        // A part that is all of its buffer belongs to this stream alone.
        giveBack(part)
      }
    })
    // A peer that dies shows as an ordinary close: what is missing is noticed by whoever counts bytes.
    stream.addEventListener('close', (event) => this.#inbox.finish(ended(event.error)))
    // No protocol here half-closes: when the peer is done, so are we, and the stream's memory is given back.
    stream.addEventListener('remoteCloseWrite', () => {
      this.#inbox.finish(ended(undefined))
      void this.close()
    })
    if (stream.status !== 'open') this.#inbox.finish(ended(undefined))
  }

  get queuedBytes(): number {
    return this.#stream.writeBufferLength
  }

  // Every buffer would be sealed and written by itself, so several are made one, and are free at once. One that shares
  // its memory with others cannot be told by it.
  send(buffers: readonly Uint8Array[], written?: () => void): boolean {
    if (this.#inbox.end !== null) return false
    const isOne = buffers.length === 1
    const bytes = isOne ? buffers[0] : Buffer.concat(buffers)
    if (isOne && written !== undefined && bytes.byteLength === bytes.buffer.byteLength)
      whenEncrypted(bytes, written)
    try {
      const hasRoom = this.#stream.send(bytes)
      if (!isOne) written?.()
      return hasRoom
    } catch (thrown) {
      this.abort(new RingError('PEER_LOST', 'stream refused bytes', { cause: thrown }))
      return false
    }
  }

  // stream.onDrain() stays resolved after the first drain (libp2p 3.3), so the event is awaited here.
  drained(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#inbox.end !== null) {
        reject(this.#inbox.end)
        return
      }
      if (!this.#stream.writableNeedsDrain) {
        resolve()
        return
      }
      const onDrain = (): void => {
        unsubscribe()
        resolve()
      }
      this.#stream.addEventListener('drain', onDrain, { once: true })
      const unsubscribe = this.#inbox.onEnd((reason) => {
        this.#stream.removeEventListener('drain', onDrain)
        reject(reason)
      })
    })
  }

  receive(sink: ByteSink | ((bytes: Uint8Array) => void)): void {
    this.#inbox.receive(sink)
  }

  onEnd(handler: (reason: RingError) => void): () => void {
    return this.#inbox.onEnd(handler)
  }

  async close(): Promise<void> {
    try {
      await this.#stream.close({ signal: AbortSignal.timeout(1_000) })
    } catch {
      // The peer did not take the last bytes in time; there is nobody left to tell.
      this.#stream.abort(new Error('close timed out'))
    }
    this.#inbox.finish(new RingError('PEER_LOST', 'closed here'))
  }

  abort(reason: RingError): void {
    this.#inbox.finish(reason)
    this.#stream.abort(reason)
  }
}

function ended(cause: Error | undefined): RingError {
  return cause instanceof RingError
    ? cause
    : new RingError(
        'PEER_LOST',
        cause === undefined ? 'stream closed by the peer' : `stream ended: ${cause.message}`,
        {
          ...(cause === undefined ? {} : { cause }),
        },
      )
}
