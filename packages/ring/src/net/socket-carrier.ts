/** A carrier over a plain TCP socket between two neighbours. Everything on it is sealed; it is only faster than a stream. */
import net from 'node:net'
import { RingError, toRingError } from '../errors.ts'
import type { Carrier } from './carrier.ts'
import { CarrierInbox } from './carrier.ts'

/** Bytes kept before anybody listens. */
const MAX_EARLY_BYTES = 1024 * 1024

/** Bytes of the one buffer a dialled socket reads into: several reads of what a loopback or a fast network delivers. */
const READ_BUFFER_BYTES = 512 * 1024

/** Wraps a connected socket. The socket belongs to the carrier from here on. */
export class SocketCarrier implements Carrier {
  readonly kind = 'direct'
  readonly #socket: net.Socket
  readonly #inbox: CarrierInbox

  private constructor(socket: net.Socket, inbox: CarrierInbox) {
    this.#socket = socket
    this.#inbox = inbox
    socket.setNoDelay(true)
    socket.on('error', (cause) => this.#inbox.finish(toRingError(cause, 'PEER_LOST', 'direct socket')))
    socket.on('close', () =>
      this.#inbox.finish(new RingError('PEER_LOST', 'direct socket closed by the peer')),
    )
    socket.on('end', () => socket.end())
  }

  /** A socket that a listener accepted. */
  static accepted(socket: net.Socket): SocketCarrier {
    const carrier = new SocketCarrier(socket, new CarrierInbox(MAX_EARLY_BYTES))
    socket.on('data', (bytes: Buffer) => carrier.#deliver(bytes))
    return carrier
  }

  /** Dials; bytes are read straight into memory of ours (`onread`, which only client sockets have). */
  static dial(host: string, port: number, timeoutMs: number): Promise<SocketCarrier> {
    return new Promise((resolve, reject) => {
      const inbox = new CarrierInbox(MAX_EARLY_BYTES)
      let carrier: SocketCarrier | null = null
      const socket = net.connect({
        host,
        port,
        onread: {
          buffer: Buffer.allocUnsafeSlow(READ_BUFFER_BYTES),
          callback: (count, buffer) => {
            if (carrier !== null) carrier.#deliver(buffer.subarray(0, count))
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

  send(buffers: readonly Uint8Array[]): boolean {
    if (this.#inbox.end !== null) return false
    this.#socket.cork()
    let more = true
    for (const buffer of buffers) more = this.#socket.write(buffer)
    this.#socket.uncork()
    return more
  }

  drained(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#inbox.end !== null) {
        reject(this.#inbox.end)
        return
      }
      if (!this.#socket.writableNeedDrain) {
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

  receive(handler: (bytes: Uint8Array) => void): void {
    this.#inbox.receive(handler)
  }

  onEnd(handler: (reason: RingError) => void): void {
    this.#inbox.onEnd(handler)
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

  #deliver(bytes: Uint8Array): void {
    if (this.#inbox.deliver(bytes)) return
    this.abort(new RingError('PEER_FLOOD', `over ${MAX_EARLY_BYTES} bytes came before they were wanted`))
  }
}
