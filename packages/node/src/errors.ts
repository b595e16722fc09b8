/**
 * The daemon's own errors: one class, a code for each thing that can be wrong, and for each code its exit
 * code and the next step for the person who reads it.
 */
import type { ExitName } from './exit-codes.ts'

/** What went wrong; callers and scripts branch on it. */
export type NodeErrorCode =
  | 'USAGE'
  | 'CONFIG_NOT_FOUND'
  | 'CONFIG_EXISTS'
  | 'CONFIG_SYNTAX'
  | 'CONFIG_UNKNOWN_KEY'
  | 'CONFIG_INVALID'
  | 'IDENTITY_EXPOSED'
  | 'IDENTITY_INVALID'
  | 'STATE_LOCKED'
  | 'STATE_VERSION'
  | 'STATE_UNWRITABLE'
  | 'STATE_FULL'
  | 'STATE_CORRUPT'
  | 'STATE_MISMATCH'
  | 'FILE_NOT_FOUND'
  | 'FILE_UNREADABLE'
  | 'VERIFY_FAILED'
  | 'NOT_RUNNING'
  | 'NOT_REACHABLE'
  | 'PORT_IN_USE'
  | 'NON_FINITE'
  | 'NODES_FAILED'
  | 'ATTESTATION_UNAVAILABLE'
  | 'ATTESTATION_UNSUPPORTED'
  | 'TRACING_UNAVAILABLE'
  | 'BAD_ADAPTER'
  | 'BAD_TRACE'
  | 'TRACE_NOT_FOUND'
  | 'OUTPUT_EXISTS'
  | 'BAD_REQUEST'
  | 'INTERRUPTED'

/** Exit code and next step of each code; the troubleshooting page is made from it. */
export const NODE_ERRORS: Readonly<
  Record<NodeErrorCode, { readonly exit: ExitName; readonly next: string }>
> = {
  USAGE: { exit: 'usage', next: 'see `gym-node --help`' },
  CONFIG_NOT_FOUND: { exit: 'usage', next: 'write one with `gym-node init`, or name it with --config' },
  CONFIG_EXISTS: { exit: 'usage', next: 'edit it, or give `gym-node init` another folder' },
  CONFIG_SYNTAX: { exit: 'usage', next: 'correct the YAML at that line' },
  CONFIG_UNKNOWN_KEY: {
    exit: 'usage',
    next: 'correct or remove the key; `gym-node init` writes a file with all of them',
  },
  CONFIG_INVALID: {
    exit: 'usage',
    next: 'correct the value; `gym-node init` writes a file that explains each key',
  },
  IDENTITY_EXPOSED: { exit: 'state', next: 'take the rights away with the chmod shown' },
  IDENTITY_INVALID: {
    exit: 'state',
    next: 'restore the identity folder from a backup, or remove it to become a new peer',
  },
  STATE_LOCKED: { exit: 'state', next: 'stop that daemon, or give this one another state_dir' },
  STATE_VERSION: {
    exit: 'state',
    next: 'run the version of gym-node that wrote the folder, or use another state_dir',
  },
  STATE_UNWRITABLE: {
    exit: 'state',
    next: 'see that the folder is there, on a disk that can be written, and belongs to the user of the daemon; or use another state_dir',
  },
  STATE_FULL: { exit: 'state', next: 'free disk space and start again; what was committed is safe' },
  STATE_CORRUPT: {
    exit: 'state',
    next: 'move the file away and start again: the ring sends its state to a node that has none',
  },
  STATE_MISMATCH: {
    exit: 'input',
    next: 'use the model, the adapter shape and the job of the ring, or another state_dir',
  },
  FILE_NOT_FOUND: { exit: 'input', next: 'check the path' },
  FILE_UNREADABLE: { exit: 'input', next: 'check the rights of the file' },
  VERIFY_FAILED: { exit: 'check_failed', next: 'do not use the file' },
  NOT_RUNNING: {
    exit: 'network',
    next: 'start the daemon with `gym-node start`, or name its folder with --state-dir',
  },
  NOT_REACHABLE: { exit: 'network', next: 'look at the log of the daemon' },
  PORT_IN_USE: {
    exit: 'network',
    next: 'stop the program that holds the port, or configure another one (0 picks a free port)',
  },
  NON_FINITE: { exit: 'training', next: 'lower train.learning_rate; the last committed round is kept' },
  NODES_FAILED: { exit: 'training', next: 'read the logs that are named above' },
  ATTESTATION_UNAVAILABLE: {
    exit: 'input',
    next: 'install tpm2-tools and give the daemon access to the TPM, or set attestation.type to none',
  },
  ATTESTATION_UNSUPPORTED: { exit: 'usage', next: 'set attestation.type to none or tpm2' },
  TRACING_UNAVAILABLE: {
    exit: 'usage',
    next: 'install @opentelemetry/api, sdk-trace, resources and exporter-trace-otlp-http beside gym-node, or remove tracing.endpoint',
  },
  BAD_ADAPTER: { exit: 'input', next: 'use an adapter made for this model with the same rank and targets' },
  BAD_TRACE: {
    exit: 'check_failed',
    next: 'ask the worker for the trace again; a damaged trace proves nothing',
  },
  TRACE_NOT_FOUND: {
    exit: 'input',
    next: 'name the trace with --trace; workers keep traces only for some rounds',
  },
  OUTPUT_EXISTS: { exit: 'usage', next: 'name another output; nothing is overwritten' },
  BAD_REQUEST: { exit: 'internal', next: 'run both ends with the same version of gym-node' },
  INTERRUPTED: { exit: 'ok', next: 'start again to go on from the last committed round' },
}

/** An error of the daemon or its command line. The message says what was seen and what was expected. */
export class NodeError extends Error {
  override readonly name = 'NodeError'
  readonly code: NodeErrorCode

  constructor(code: NodeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** The `code` of an error of Node's own (ENOENT, EADDRINUSE, ...), or null. */
export function errnoOf(error: unknown): string | null {
  if (!(error instanceof Error) || !('code' in error)) return null
  return typeof error.code === 'string' ? error.code : null
}

/** The message of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
