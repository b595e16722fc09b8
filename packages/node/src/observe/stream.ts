/** The live event stream (server-sent events): many readers, none of whom can slow the daemon or fill its memory. */
import type { ServerResponse } from 'node:http'
import type { DaemonEvent, DaemonStatus } from '../status.ts'
import { STREAM_CLIENTS, STREAM_HEARTBEAT_MS, STREAM_QUEUE_BYTES, STREAM_STATUS_MS } from './defaults.ts'

/** What the stream needs from the rest of the observatory. */
export interface StreamOptions {
  readonly status: () => DaemonStatus
  /** Called when a client is cut off for reading too slowly. */
  readonly onDrop: () => void
  readonly onFault: (error: unknown) => void
}

/** Sends every event to every client, and the status document when it may have changed. */
export class EventStream {
  readonly #options: StreamOptions
  readonly #clients = new Set<ServerResponse>()
  #heartbeat: NodeJS.Timeout | null = null
  #statusTimer: NodeJS.Timeout | null = null
  #nextId = 1

  constructor(options: StreamOptions) {
    this.#options = options
  }

  /** Clients connected now. */
  get clients(): number {
    return this.#clients.size
  }

  /** Whether another client may come. */
  get hasRoom(): boolean {
    return this.#clients.size < STREAM_CLIENTS
  }

  /** Takes over a response whose headers are sent; the first thing the client gets is the status. */
  add(response: ServerResponse): void {
    this.#clients.add(response)
    response.on('close', () => {
      this.#clients.delete(response)
      if (this.#clients.size === 0) this.#stopHeartbeat()
    })
    // A socket that breaks while written to reports it here; 'close' follows and removes the client.
    response.on('error', () => response.destroy())
    this.#write(response, 'retry: 2000\n\n')
    this.#write(response, this.#statusFrame())
    this.#heartbeat ??= setInterval(() => {
      this.#broadcast(': still here\n\n')
      this.#statusSoon()
    }, STREAM_HEARTBEAT_MS).unref()
  }

  /** Sends an event to all, and soon after the status document. */
  send(at: number, event: DaemonEvent): void {
    if (this.#clients.size === 0) return
    this.#broadcast(frame(event.type, { at, event }, this.#nextId++))
    this.#statusSoon()
  }

  /** Ends all streams. */
  close(): void {
    this.#stopHeartbeat()
    if (this.#statusTimer !== null) clearTimeout(this.#statusTimer)
    this.#statusTimer = null
    for (const client of this.#clients) client.end()
    this.#clients.clear()
  }

  #statusSoon(): void {
    if (this.#statusTimer !== null) return
    this.#statusTimer = setTimeout(() => {
      this.#statusTimer = null
      if (this.#clients.size > 0) this.#broadcast(this.#statusFrame())
    }, STREAM_STATUS_MS).unref()
  }

  #statusFrame(): string {
    try {
      return frame('status', this.#options.status(), null)
    } catch (error) {
      this.#options.onFault(error)
      return ''
    }
  }

  #broadcast(text: string): void {
    for (const client of this.#clients) this.#write(client, text)
  }

  #write(client: ServerResponse, text: string): void {
    if (text === '') return
    if (client.writableLength > STREAM_QUEUE_BYTES) {
      this.#options.onDrop()
      this.#clients.delete(client)
      client.destroy()
      return
    }
    client.write(text)
  }

  #stopHeartbeat(): void {
    if (this.#heartbeat !== null) clearInterval(this.#heartbeat)
    this.#heartbeat = null
  }
}

function frame(name: string, body: unknown, id: number | null): string {
  // JSON never holds a raw line break, so one data line is enough.
  return `${id === null ? '' : `id: ${id}\n`}event: ${name}\ndata: ${JSON.stringify(body)}\n\n`
}
