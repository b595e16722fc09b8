/**
 * How an error reaches a person: one line with its code and the next step, and an exit code. Knows the error
 * classes of all packages; the stack is for --debug.
 */
import { messageOf, NODE_ERRORS, NodeError } from '../errors.ts'
import { EXIT_CODES, type ExitName } from '../exit-codes.ts'

/** An error in the words of the command line. */
export interface PresentedError {
  readonly code: string
  readonly message: string
  /** What to do; empty when the message says it. */
  readonly next: string
  readonly exitCode: number
}

/** Ring errors that are not simply "the network failed". */
const RING_NEXT: Readonly<Record<string, { exit: ExitName; next: string }>> = {
  PORT_IN_USE: { exit: 'network', next: NODE_ERRORS.PORT_IN_USE.next },
  BAD_ADDRESS: { exit: 'usage', next: 'correct ring.listen and ring.bootstrap' },
  BAD_SWARM_KEY: { exit: 'usage', next: 'name a file that `gym-node swarm-key` has written' },
  BAD_ARGUMENT: { exit: 'usage', next: 'correct the section ring of the configuration' },
  BAD_STORE: {
    exit: 'state',
    next: 'the file `view` of the state folder is damaged: move it away to join as a new member',
  },
  LENGTH_MISMATCH: { exit: 'input', next: 'use the same model, lora_rank and lora_targets as the ring' },
}

/** Trainer errors whose cause is the training itself; all others are input that the operator can mend. */
const TRAINING_CODES: readonly string[] = [
  'ENGINE_DIED',
  'ENGINE_FAILED',
  'NON_FINITE',
  'OUT_OF_MEMORY_LIMIT',
  'CLOSED',
]

/** Code, message, next step and exit code of anything that was thrown. */
export function presentError(error: unknown): PresentedError {
  if (error instanceof NodeError) {
    const { exit, next } = NODE_ERRORS[error.code]
    return { code: error.code, message: error.message, next, exitCode: EXIT_CODES[exit].code }
  }
  if (isErrorNamed(error, 'RingError')) {
    const { exit, next } = RING_NEXT[error.code] ?? {
      exit: 'network',
      next: 'look at the log for the peer and the round',
    }
    return { code: error.code, message: error.message, next, exitCode: EXIT_CODES[exit].code }
  }
  if (isErrorNamed(error, 'GspoError')) return presentTrainerError(error)
  if (isErrorNamed(error, 'WireError')) {
    return {
      code: error.code,
      message: error.message,
      next: 'the bytes are damaged or were not written by gym-node',
      exitCode: EXIT_CODES.check_failed.code,
    }
  }
  return {
    code: 'INTERNAL',
    message: messageOf(error),
    next: 'run it again with --debug and report the trace',
    exitCode: EXIT_CODES.internal.code,
  }
}

/** The one line for standard error. */
export function errorLine(error: PresentedError): string {
  const message = error.message.replaceAll(/\s*\n\s*/g, ' ')
  return `error ${error.code}: ${message}${error.next === '' ? '' : ` (${error.next})`}`
}

/** An error of another package, told by its name: printing one must not load an engine or a network. */
function isErrorNamed(error: unknown, name: string): error is Error & { readonly code: string } {
  return error instanceof Error && error.name === name && 'code' in error && typeof error.code === 'string'
}

function presentTrainerError(error: Error & { readonly code: string }): PresentedError {
  if (error.code === 'BAD_CONFIG') {
    return {
      code: error.code,
      message: error.message,
      next: 'correct the section train of the configuration',
      exitCode: EXIT_CODES.usage.code,
    }
  }
  if (error.code === 'FILE_UNWRITABLE') {
    const { code, message } = error
    return { code, message, next: 'then run the command again', exitCode: EXIT_CODES.input.code }
  }
  const failed = TRAINING_CODES.includes(error.code)
  return {
    code: error.code,
    message: error.message,
    next: failed
      ? 'the last committed round is kept; look at the log, then start again'
      : 'correct the model, data set or reward that is named',
    exitCode: EXIT_CODES[failed ? 'training' : 'input'].code,
  }
}
