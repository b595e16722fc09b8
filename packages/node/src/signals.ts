/**
 * Stop signals for a process that stops in order: the first asks, a second one ends the process at
 * once. Signals that come together count as one, since a terminal, npm and a launcher may each pass it on.
 */
import { SIGNAL_DEBOUNCE_MS } from './defaults.ts'
import { exitCodeOfSignal } from './exit-codes.ts'

/** Signals that stop a command. A daemon without a terminal takes SIGHUP as "read the configuration again" instead. */
export const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Aborts `signal` at the first stop signal; `release` takes the handlers away. */
export interface StopSignals {
  readonly signal: AbortSignal
  release(): void
}

/** Installs the handlers. `onFirst` is told the name of the first signal. */
export function listenForStop(
  onFirst: (name: string) => void,
  names: readonly (typeof STOP_SIGNALS)[number][] = STOP_SIGNALS,
): StopSignals {
  const controller = new AbortController()
  let firstAt: number | null = null
  const handle = (name: (typeof STOP_SIGNALS)[number]): void => {
    const now = performance.now()
    if (firstAt === null) {
      firstAt = now
      onFirst(name)
      controller.abort(new Error(`received ${name}`))
    } else if (now - firstAt > SIGNAL_DEBOUNCE_MS) {
      process.exit(exitCodeOfSignal(name))
    }
  }
  for (const name of names) process.on(name, handle)
  return {
    signal: controller.signal,
    release: () => {
      for (const name of names) process.off(name, handle)
    },
  }
}
