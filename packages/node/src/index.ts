/** The public surface of gym-node as a library: run a daemon, read its configuration, state and errors. */
export { runDaemon, type DaemonOptions } from './daemon.ts'
export { loadConfig, type ConfigSources, type LoadedConfig } from './config/load.ts'
export { nodeConfigSchema, type NodeConfig } from './config/schema.ts'
export { NodeError, type NodeErrorCode } from './errors.ts'
export { createLogger, type Logger, type LogOptions } from './log.ts'
export type { ParentLink, ParentMessage } from './parent-link.ts'
export type { DaemonEvent, DaemonState, DaemonStatus, MemberStatus, RoundStatus } from './status.ts'
export { VERSION } from './version.ts'
