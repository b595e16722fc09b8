/**
 * The daemon's side of history: hands events to the history thread and asks it for charts. Appending never
 * waits and never throws; a failing thread is started again, and what was lost is counted.
 */
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { DaemonEvent } from '../status.ts'
import {
  HISTORY_CLOSE_MS,
  HISTORY_DEADLINE_MS,
  HISTORY_QUEUE_EVENTS,
  type HistoryLimits,
} from './defaults.ts'
import type { SeriesQuery, SeriesTable, TimedEvent } from './history-store.ts'

/** What the history thread can be asked. */
type HistoryAsk =
  | { readonly kind: 'append'; readonly events: readonly TimedEvent[] }
  | { readonly kind: 'read'; readonly query: SeriesQuery }
  | { readonly kind: 'recent'; readonly type: DaemonEvent['type'] | null; readonly limit: number }
  | { readonly kind: 'close' }

/** One request to the history thread; the reply carries the same id. */
export type HistoryRequest = HistoryAsk & { readonly id: number }

/** What the history thread says. */
export type HistoryReply =
  | { readonly kind: 'done'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failed'; readonly id: number; readonly message: string }
  | { readonly kind: 'aside'; readonly from: string; readonly to: string; readonly reason: string }

/** A stored event as it comes back. */
export interface RecentEvent {
  readonly id: number
  readonly at: number
  readonly event: DaemonEvent
}

/** What history reports instead of throwing. */
export interface HistoryNotices {
  /** `events` were lost or a query failed. */
  fault(message: string, events: number): void
  /** The file was set aside and a fresh one begun. */
  aside(fields: { from: string; to: string; reason: string }): void
}

/** Where history lives and how much it keeps. */
export interface HistoryOptions {
  readonly path: string
  readonly job: string
  readonly limits: HistoryLimits
  readonly notices: HistoryNotices
}

interface Waiting {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
  readonly events: number
  readonly timer: NodeJS.Timeout | null
}

/** The name of the thread's entry beside this file: `.ts` in the source tree, `.js` in a build. */
const WORKER = new URL(`./history-worker${extname(import.meta.url)}`, import.meta.url)

/** Durable history; `append` is fire and forget, reads reject after a deadline. */
export class History {
  readonly #options: HistoryOptions
  readonly #waiting = new Map<number, Waiting>()
  #worker: Worker | null = null
  #isClosed = false
  #nextId = 1
  #queued = 0

  constructor(options: HistoryOptions) {
    this.#options = options
  }

  /** Stores an event soon. Past the queue's limit the event is dropped and reported. */
  append(at: number, event: DaemonEvent): void {
    if (this.#isClosed) return
    if (this.#queued >= HISTORY_QUEUE_EVENTS) {
      this.#options.notices.fault(
        `${this.#queued} events wait for the disk, limit ${HISTORY_QUEUE_EVENTS}`,
        1,
      )
      return
    }
    this.#ask({ kind: 'append', events: [{ at, event }] }, 1, null).catch(() => {
      // Reported as a fault where it failed; there is nobody here to tell.
    })
  }

  /** Charts' buckets. Rejects when the file cannot be read or the thread does not answer in time. */
  async read(query: SeriesQuery): Promise<SeriesTable[]> {
    return (await this.#ask({ kind: 'read', query }, 0, HISTORY_DEADLINE_MS)) as SeriesTable[]
  }

  /** Newest events first; null means all that belongs in a log. */
  async recent(type: DaemonEvent['type'] | null, limit: number): Promise<RecentEvent[]> {
    return (await this.#ask({ kind: 'recent', type, limit }, 0, HISTORY_DEADLINE_MS)) as RecentEvent[]
  }

  /** Stores what is queued and ends the thread; after a deadline ends it anyway. Idempotent. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    const worker = this.#worker
    if (worker !== null) {
      try {
        await this.#ask({ kind: 'close' }, 0, HISTORY_CLOSE_MS)
      } catch {
        // Too slow or already gone: the thread is terminated below, WAL keeps the file whole.
      }
    }
    this.#isClosed = true
    await worker?.terminate()
    this.#failAll('history is closed')
  }

  #ask(request: HistoryAsk, events: number, deadlineMs: number | null): Promise<unknown> {
    if (this.#isClosed) return Promise.reject(new Error('history is closed'))
    const id = this.#nextId++
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    const timer =
      deadlineMs === null
        ? null
        : setTimeout(() => {
            this.#settle(id)?.reject(new Error(`history did not answer within ${deadlineMs} ms`))
          }, deadlineMs)
    this.#waiting.set(id, { resolve, reject, events, timer })
    this.#queued += events
    this.#start().postMessage({ ...request, id } satisfies HistoryRequest)
    return promise
  }

  #start(): Worker {
    if (this.#worker !== null) return this.#worker
    const { path, job, limits } = this.#options
    const worker = new Worker(WORKER, { workerData: { path, job, limits }, name: 'gym-node history' })
    // The daemon's life does not hang on this thread; close() waits for it explicitly.
    worker.unref()
    worker.on('message', (reply: HistoryReply) => {
      this.#hear(reply)
    })
    worker.on('error', (error) => {
      this.#lose(worker, error instanceof Error ? error.message : String(error))
    })
    worker.on('exit', (code) => {
      this.#lose(worker, `history thread ended with code ${code}`)
    })
    this.#worker = worker
    return worker
  }

  #hear(reply: HistoryReply): void {
    switch (reply.kind) {
      case 'done':
        this.#settle(reply.id)?.resolve(reply.value)
        return
      case 'failed': {
        const waiting = this.#settle(reply.id)
        this.#options.notices.fault(reply.message, waiting?.events ?? 0)
        waiting?.reject(new Error(reply.message))
        return
      }
      case 'aside':
        this.#options.notices.aside({ from: reply.from, to: reply.to, reason: reply.reason })
        return
    }
  }

  #lose(worker: Worker, message: string): void {
    if (this.#worker !== worker) return
    this.#worker = null
    const lost = this.#queued
    this.#failAll(message)
    if (!this.#isClosed && lost > 0) this.#options.notices.fault(message, lost)
  }

  #failAll(message: string): void {
    for (const id of [...this.#waiting.keys()]) this.#settle(id)?.reject(new Error(message))
  }

  #settle(id: number): Waiting | null {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return null
    this.#waiting.delete(id)
    this.#queued -= waiting.events
    if (waiting.timer !== null) clearTimeout(waiting.timer)
    return waiting
  }
}
