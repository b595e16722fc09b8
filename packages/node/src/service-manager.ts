/**
 * Talks to systemd (Type=notify): ready, status text, stopping, watchdog. Node has no datagram sockets of the Unix
 * kind, so `systemd-notify` sends them; without NOTIFY_SOCKET nothing is done.
 */
import { execFile } from 'node:child_process'
import { NOTIFY_TIMEOUT_MS } from './defaults.ts'
import type { Logger } from './log.ts'
import type { DaemonState } from './status.ts'

const MICROSECONDS_PER_MS = 1_000

/** The service manager's end of the line. Calls never throw and never wait. */
export interface ServiceManager {
  /** The daemon listens: `systemctl start` returns. */
  ready(): void
  /** The sentence that `systemctl status` shows; a daemon that is stopping says so. */
  status(state: DaemonState, reason: string): void
  close(): void
}

/** Opens the line when this process runs under systemd. Messages go out one after the other; of states only the newest. */
export function openServiceManager(log: Logger, env: NodeJS.ProcessEnv = process.env): ServiceManager {
  if (env['NOTIFY_SOCKET'] === undefined)
    return { ready: () => undefined, status: () => undefined, close: () => undefined }
  const sender = new NotifySender(log)
  const watchdogMs = Number(env['WATCHDOG_USEC'] ?? 0) / MICROSECONDS_PER_MS
  // A turn of the event loop is the sign of life, so a timer is the honest watchdog.
  const timer =
    watchdogMs > 0 ? setInterval(() => sender.send(['WATCHDOG=1']), watchdogMs / 2).unref() : undefined
  return {
    ready: () => sender.send(['READY=1']),
    status: (state, reason) => {
      const line = `STATUS=${state}: ${reason.replaceAll('\n', ' ')}`
      sender.send(state === 'stopping' ? ['STOPPING=1', line] : [line])
    },
    close: () => clearInterval(timer),
  }
}

/** Runs `systemd-notify` for each message, in order. */
class NotifySender {
  readonly #log: Logger
  #queue: string[][] = []
  #isSending = false

  constructor(log: Logger) {
    this.#log = log
  }

  send(assignments: string[]): void {
    const isStatus = (message: readonly string[]): boolean =>
      message.length === 1 && (message[0] ?? '').startsWith('STATUS=')
    if (isStatus(assignments)) this.#queue = this.#queue.filter((message) => !isStatus(message))
    this.#queue.push(assignments)
    this.#next()
  }

  #next(): void {
    const message = this.#isSending ? undefined : this.#queue.shift()
    if (message === undefined) return
    this.#isSending = true
    execFile(
      'systemd-notify',
      [`--pid=${process.pid}`, ...message],
      { timeout: NOTIFY_TIMEOUT_MS },
      (error) => {
        if (error !== null) this.#log.warn({ code: 'NOTIFY_FAILED' }, `systemd-notify: ${error.message}`)
        this.#isSending = false
        this.#next()
      },
    )
  }
}
