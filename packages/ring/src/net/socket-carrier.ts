/** A carrier over a plain TCP socket between two neighbours. Everything on it is sealed; it is only faster than a stream. */
import net from 'node:net'
import { RingError, toRingError } from '../errors.ts'
import type { ByteSink, Carrier } from './carrier.ts'
import { DIRECT_KEEP_ALIVE_MS } from './defaults.ts'
import { CarrierInbox } from './carrier.ts'

/** Bytes that may wait in this process before `send` asks for a pause: the kernel holds megabytes beyond. */
const MAX_QUEUED_BYTES = 64 * 1024

/** Wraps a connected socket. The socket belongs to the carrier from here on. */
export class SocketCarrier implements Carrier {
  readonly kind = 'direct'
  readonly #socket: net.Socket
  readonly #inbox: CarrierInbox

  private constructor(socket: net.Socket, inbox: CarrierInbox) {
    this.#socket = socket
    this.#inbox = inbox
    socket.setNoDelay(true)
    // Between rounds nothing passes: a NAT that forgets the socket must not be noticed by a round that stalls on it.
    socket.setKeepAlive(true, DIRECT_KEEP_ALIVE_MS)
    socket.on('error', (cause) => this.#inbox.finish(toRingError(cause, 'PEER_LOST', 'direct socket')))
    socket.on('close', () =>
      this.#inbox.finish(new RingError('PEER_LOST', 'direct socket closed by the peer')),
    )
    socket.on('end', () => socket.end())
  }

  /** A socket that a listener accepted. */
  static accepted(socket: net.Socket): SocketCarrier {
    const carrier = new SocketCarrier(socket, new CarrierInbox())
    socket.on('data', (bytes: Buffer) => {
      const refusal = carrier.#inbox.deliver(bytes)
      if (refusal !== null) carrier.abort(refusal)
    })
    return carrier
  }

  /** Dials; bytes are read straight to where their frame is put together (`onread`, which only client sockets have). */
  static dial(host: string, port: number, timeoutMs: number): Promise<SocketCarrier> {
    return new Promise((resolve, reject) => {
      const inbox = new CarrierInbox()
      let carrier: SocketCarrier | null = null
      const socket = net.connect({
        host,
        port,
        onread: {
          buffer: () => inbox.room(),
          callback: (count) => {
            const refusal = inbox.arrived(count)
            if (refusal !== null) carrier?.abort(refusal)
            return true
          },
        },
      })
      const fail = (reason: RingError): void => {
        socket.destroy()
        reject(reason)
      }
      const timer = setTimeout(
        () => fail(new RingError('TIMEOUT', `no answer within ${timeoutMs} ms`)),
        timeoutMs,
      )
      socket.once('error', (cause) => {
        clearTimeout(timer)
        fail(toRingError(cause, 'PEER_LOST', 'direct dial'))
      })
      socket.once('connect', () => {
        clearTimeout(timer)
        carrier = new SocketCarrier(socket, inbox)
        resolve(carrier)
      })
    })
  }

  get queuedBytes(): number {
    return this.#socket.writableLength
  }

  send(buffers: readonly Uint8Array[], written?: () => void): boolean {
    if (this.#inbox.end !== null) return false
    let isTold = false
    const tell = (): void => {
      if (!isTold) written?.()
      isTold = true
    }
    const last = buffers.length - 1
    if (last > 0) this.#socket.cork()
    buffers.forEach((buffer, i) => {
      if (i < last || written === undefined) this.#socket.write(buffer)
      // A failed write needs no call: the socket ends, and what it held is collected.
      else this.#socket.write(buffer, (error) => error ?? tell())
    })
    if (last > 0) this.#socket.uncork()
    // What the kernel took at once is used again while it is in cache; the callback only comes after a whole burst.
    if (this.#socket.writableLength === 0) tell()
    return this.#hasRoom
  }

  /** What the kernel takes at once never counts; `write` itself would report it as queued until the next tick. */
  get #hasRoom(): boolean {
    return this.#socket.writableLength <= MAX_QUEUED_BYTES
  }

  drained(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#inbox.end !== null) {
        reject(this.#inbox.end)
        return
      }
      if (this.#hasRoom || !this.#socket.writableNeedDrain) {
        resolve()
        return
      }
      const onClose = (): void => {
        this.#socket.off('drain', onDrain)
        reject(this.#inbox.end ?? new RingError('PEER_LOST', 'direct socket closed'))
      }
      const onDrain = (): void => {
        this.#socket.off('close', onClose)
        resolve()
      }
      this.#socket.once('drain', onDrain)
      this.#socket.once('close', onClose)
    })
  }

  receive(sink: ByteSink | ((bytes: Uint8Array) => void)): void {
    this.#inbox.receive(sink)
  }

  onEnd(handler: (reason: RingError) => void): () => void {
    return this.#inbox.onEnd(handler)
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket.destroyed) {
        resolve()
        return
      }
      const timer = setTimeout(() => this.#socket.destroy(), 1_000)
      this.#socket.once('close', () => {
        clearTimeout(timer)
        resolve()
      })
      this.#socket.end()
    })
  }

  abort(reason: RingError): void {
    this.#inbox.finish(reason)
    this.#socket.destroy()
  }
}
