/** What the daemon and its tools import from the observatory. */
export { createObservatory } from './observatory.ts'
export type { Observatory, ObservatoryOptions, ObserveLogger } from './observatory.ts'
export { HISTORY_LIMITS } from './defaults.ts'
export type { HistoryLimits } from './defaults.ts'
