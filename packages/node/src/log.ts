/**
 * The daemon's log: pino, one JSON object a line on standard output, readable lines on a terminal.
 * Objects, not sentences; never a secret, a prompt or a key.
 */
import { pino, type Logger } from 'pino'
import pretty from 'pino-pretty'
import type { LOG_FORMATS, LOG_LEVELS } from './log-levels.ts'

export type { Logger }

/** How to log. */
export interface LogOptions {
  readonly level: (typeof LOG_LEVELS)[number]
  readonly format: (typeof LOG_FORMATS)[number]
}

/** A logger on standard output. Writes are synchronous: the last line before a crash is the one that matters. */
export function createLogger(options: LogOptions): Logger {
  const asText = options.format === 'pretty' || (options.format === 'auto' && process.stdout.isTTY)
  const settings = {
    level: options.level,
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
  }
  if (asText)
    return pino(
      settings,
      pretty({ sync: true, colorize: process.stdout.isTTY, ignore: 'pid', translateTime: 'SYS:HH:MM:ss' }),
    )
  return pino(settings, pino.destination({ dest: 1, sync: true }))
}
