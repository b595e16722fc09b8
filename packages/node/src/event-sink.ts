/** Where the daemon's events go, and what of them and of the ring an operator reads in the log. */
import type { RingLogger } from '@gym-node/ring'
import type { Logger } from './log.ts'
import type { Observatory } from './observe/index.ts'
import type { Tracing } from './observe/tracing.ts'
import type { ParentLink } from './parent-link.ts'
import type { ServiceManager } from './service-manager.ts'
import type { StatusBoard } from './status-board.ts'
import type { DaemonEvent } from './status.ts'

/** Who is told. */
export interface EventReceivers {
  readonly log: Logger
  readonly parent: ParentLink
  readonly board: StatusBoard
  readonly observatory: Observatory
  readonly tracing: Tracing
  readonly service: ServiceManager
}

/** Sends an event everywhere: status, history and live stream, parent, log. */
export function eventSink(to: EventReceivers): (event: DaemonEvent) => void {
  return (event) => {
    to.board.record(event, new Date())
    to.observatory.emit(event)
    to.tracing.emit(event)
    to.parent.send({ type: 'event', event, bytesSent: to.board.document().ring.bytes_sent })
    if (event.type === 'state') to.service.status(event.state, event.reason)
    logEvent(to.log, event)
  }
}

function logEvent(log: Logger, event: DaemonEvent): void {
  switch (event.type) {
    case 'round': {
      const { round, epoch, duration_ms, bytes_sent, attempts, contributors, adapter_sha3_256 } = event.round
      log.info(
        { round, epoch, members: contributors.length, duration_ms, bytes_sent, attempts, adapter_sha3_256 },
        'round committed',
      )
      return
    }
    case 'view':
      log.info({ epoch: event.epoch, members: event.members }, 'view')
      return
    case 'error':
      log.warn({ code: event.code }, event.message)
      return
    case 'step':
      log.debug(
        {
          round: event.round,
          step: event.stats.step,
          loss: event.stats.loss,
          reward: event.stats.rewardMean,
        },
        'step',
      )
      return
    case 'state':
      log.debug({ state: event.state }, event.reason)
      return
    case 'delta':
      log[event.dtype === 'f32' ? 'debug' : 'info'](
        {
          round: event.round,
          file: event.file,
          bytes: event.bytes,
          dtype: event.dtype,
          relative_error: event.relative_error,
        },
        'delta written',
      )
      return
    case 'verdict':
      if (!event.isOld) log[event.verdict.result === 'rejected' ? 'warn' : 'info'](event.verdict, 'verdict')
      return
    case 'rollout': // prompts are never logged
      return
  }
}

/** The ring's log one level lower: what an operator should see of it at `info`, the daemon says itself, once. */
export function ringLogger(log: Logger): RingLogger {
  return {
    debug: (fields, message) => log.trace(fields, message),
    info: (fields, message) => log.debug(fields, message),
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
  }
}
