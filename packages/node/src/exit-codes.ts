/**
 * The exit codes of every `gym-node` command. A service manager may restart on 1, 4 and 7; on 2, 3, 5 and 6
 * a restart changes nothing until somebody acts.
 */

/** Name of a way to end, used by the error tables. */
export type ExitName =
  'ok' | 'internal' | 'usage' | 'check_failed' | 'network' | 'state' | 'input' | 'training'

/** Exit code and meaning by name; `gym-node --help` and the documentation print this table. */
export const EXIT_CODES: Readonly<Record<ExitName, { readonly code: number; readonly meaning: string }>> = {
  ok: { code: 0, meaning: 'done, or stopped as asked' },
  internal: { code: 1, meaning: 'a fault of gym-node itself' },
  usage: { code: 2, meaning: 'wrong command line or configuration' },
  check_failed: { code: 3, meaning: 'a check said no: a delta does not verify, doctor found a fault' },
  network: { code: 4, meaning: 'a port is in use, or a daemon cannot be reached' },
  state: { code: 5, meaning: 'the state folder is locked, read-only, full, damaged or of another version' },
  input: { code: 6, meaning: 'a model, data set or reward module is missing or malformed' },
  training: { code: 7, meaning: 'training failed: the engine died or its numbers are not finite' },
}

/** Exit code after a second SIGINT or SIGTERM, by the shell's rule 128 + signal number. */
export function exitCodeOfSignal(signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP'): number {
  const numbers = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const
  return 128 + numbers[signal]
}
