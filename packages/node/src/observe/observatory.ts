/**
 * Puts together what watches a daemon: metrics, history, live stream, HTTP and dashboard. Whatever goes wrong
 * in here is counted and logged (once a minute), and never reaches training.
 */
import { join } from 'node:path'
import type { DaemonEvent, DaemonStatus } from '../status.ts'
import { FAULT_LOG_MS, HISTORY_LIMITS, TEXT_CHARS, type HistoryLimits } from './defaults.ts'
import { History } from './history.ts'
import { HttpServer, type Controls } from './http-server.ts'
import { Metrics, type ObservePart } from './metrics.ts'
import { readPageFiles } from './page-files.ts'
import { EventStream } from './stream.ts'

/** A pino logger, or anything shaped like one. */
export interface ObserveLogger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** What the observatory is made of. */
export interface ObservatoryOptions {
  /** Holds `history.sqlite`; made when absent. */
  readonly stateDir: string
  /** Where to serve; null serves nothing (history and metrics are still kept). Port 0 takes a free one. */
  readonly listen: { readonly host: string; readonly port: number } | null
  /** Allows pause, resume and leave, and reading from other machines; null allows neither. */
  readonly token: string | null
  readonly status: () => DaemonStatus
  readonly controls: Controls
  readonly logger: ObserveLogger
  /** Host names of a proxy or a cluster under which the daemon is reached. */
  readonly allowedHosts?: readonly string[]
  readonly historyLimits?: Partial<HistoryLimits>
}

/** Watches one daemon from `start` to `stop`; both idempotent. */
export interface Observatory {
  /** Serves. Null when nothing is served; throws NodeError PORT_IN_USE or CONFIG_INVALID. */
  start(): Promise<{ url: string } | null>
  /** Counts, stores and streams an event. Never throws, never waits. */
  emit(event: DaemonEvent): void
  /** Stores what is queued and closes everything. */
  stop(): Promise<void>
}

/** Makes an observatory; nothing is opened before `start`, except the history file at the first event. */
export function createObservatory(options: ObservatoryOptions): Observatory {
  return new LocalObservatory(options)
}

class LocalObservatory implements Observatory {
  readonly #options: ObservatoryOptions
  readonly #metrics = new Metrics()
  readonly #stream: EventStream
  readonly #history: History
  readonly #lastLogged = new Map<ObservePart, number>()
  #server: HttpServer | null = null
  #isStopped = false

  constructor(options: ObservatoryOptions) {
    this.#options = options
    this.#stream = new EventStream({
      status: options.status,
      onDrop: () => {
        this.#metrics.count('streamDrops', 1)
      },
      onFault: (error) => {
        this.#fault('status', error, 1)
      },
    })
    this.#history = new History({
      path: join(options.stateDir, 'history.sqlite'),
      job: options.status().job,
      limits: { ...HISTORY_LIMITS, ...options.historyLimits },
      notices: {
        fault: (message, events) => {
          this.#fault('history', new Error(message), Math.max(1, events))
        },
        aside: (fields) => {
          options.logger.warn(fields, 'history file set aside, a fresh one begun')
        },
      },
    })
  }

  async start(): Promise<{ url: string } | null> {
    const { listen, logger } = this.#options
    if (listen === null || this.#isStopped) return null
    if (this.#server === null) {
      this.#server = new HttpServer({
        listen,
        token: this.#options.token,
        allowedHosts: this.#options.allowedHosts ?? [],
        status: this.#options.status,
        controls: this.#options.controls,
        history: this.#history,
        stream: this.#stream,
        metrics: this.#metrics,
        files: await readPageFiles(),
        onFault: (part, error) => {
          this.#fault(part, error, 1)
        },
      })
    }
    const url = await this.#server.start()
    logger.info({ url }, 'observatory listens')
    return { url }
  }

  emit(event: DaemonEvent): void {
    if (this.#isStopped) return
    const at = Date.now()
    const bounded = boundText(event)
    this.#guarded('metrics', () => {
      this.#metrics.observe(bounded)
    })
    this.#guarded('history', () => {
      this.#history.append(at, bounded)
    })
    this.#guarded('stream', () => {
      this.#stream.send(at, bounded)
    })
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#stream.close()
    await this.#server?.stop()
    await this.#history.close()
  }

  #guarded(part: ObservePart, work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#fault(part, error, 1)
    }
  }

  #fault(part: ObservePart, error: unknown, times: number): void {
    this.#metrics.count('observeFaults', times, { part })
    const now = performance.now() // not the wall clock, which somebody may set back
    if (now - (this.#lastLogged.get(part) ?? -Infinity) < FAULT_LOG_MS) return
    this.#lastLogged.set(part, now)
    this.#options.logger.warn({ part, err: error }, 'observation failed, training goes on')
  }
}

/** Texts that come from a model or a data set may be of any length; what is kept and sent is bounded. */
function boundText(event: DaemonEvent): DaemonEvent {
  switch (event.type) {
    case 'rollout':
      return { ...event, prompt: clip(event.prompt), completion: clip(event.completion) }
    case 'error':
      return { ...event, message: clip(event.message) }
    case 'state':
      return { ...event, reason: clip(event.reason) }
    case 'step':
    case 'round':
    case 'view':
    case 'delta':
    case 'verdict':
      return event
  }
}

function clip(text: string): string {
  return text.length <= TEXT_CHARS ? text : `${text.slice(0, TEXT_CHARS - 1).toWellFormed()}…`
}
