/** Every limit of the observatory, with its unit and its reason. */

/** How many rows of each kind the history keeps; the oldest go first. */
export interface HistoryLimits {
  readonly steps: number
  readonly rounds: number
  /** Rows kept of each kind of event. */
  readonly state: number
  readonly view: number
  readonly delta: number
  readonly verdict: number
  readonly rollout: number
  readonly error: number
}

/** About 40 MB of SQLite at most: months of steps, and enough text to see what the policy says. */
export const HISTORY_LIMITS: HistoryLimits = {
  steps: 200_000,
  rounds: 100_000,
  state: 2_000,
  view: 2_000,
  delta: 5_000,
  verdict: 2_000,
  rollout: 2_000,
  error: 2_000,
}

/** Rows between two prunings of one table: a prune costs about a millisecond, so it is not done at each row. */
export const PRUNE_EVERY_ROWS = 256

/** Events handed to the history thread and not yet stored; past it (a dead disk) they are dropped and counted. */
export const HISTORY_QUEUE_EVENTS = 4_096

/** Longest wait for an answer of the history thread, ms. A scan of 200,000 rows takes about 200 ms. */
export const HISTORY_DEADLINE_MS = 10_000

/** Longest wait for the history thread to store what it holds at stop, ms; then it is terminated. */
export const HISTORY_CLOSE_MS = 3_000

/** A SQLite statement that finds the file locked by another reader waits this long, ms. */
export const HISTORY_BUSY_MS = 2_000

/** Points of one chart: default and largest. A chart is at most a few thousand pixels wide. */
export const HISTORY_POINTS_DEFAULT = 400
export const HISTORY_POINTS_MAX = 5_000

/** Rows of one kind that `/api/recent` gives: default and largest. */
export const RECENT_ROWS_DEFAULT = 40
export const RECENT_ROWS_MAX = 500

/** Characters kept of a prompt or completion: enough to judge a sample, bounded for whoever sends long ones. */
export const TEXT_CHARS = 4_000

/** Clients of `/events` at once; each costs a socket and a buffer. */
export const STREAM_CLIENTS = 32

/** Bytes queued for one client of `/events` before it is cut off as too slow; it reconnects and reloads. */
export const STREAM_QUEUE_BYTES = 1_048_576

/** A comment this often, ms, keeps a quiet stream open through proxies and finds dead sockets. */
export const STREAM_HEARTBEAT_MS = 15_000

/** The status document is sent to streams at most this often, ms: smooth to the eye, cheap for the daemon. */
export const STREAM_STATUS_MS = 500

/** HTTP: sockets at once, time to send the headers and the request, ms, and the largest body of a request, bytes. */
export const HTTP_CONNECTIONS = 256
export const HTTP_HEADERS_MS = 10_000
export const HTTP_REQUEST_MS = 15_000
export const HTTP_BODY_BYTES = 1_024

/** Longest wait for pause, resume or leave, ms: leaving ends the round at hand first. */
export const CONTROL_DEADLINE_MS = 60_000

/** The same fault of observation is logged once in this time, ms; the counter has every one. */
export const FAULT_LOG_MS = 60_000

/** Tracing: spans queued for the collector (older ones are dropped), time between two sendings and for one, ms. */
export const TRACING_QUEUE_SPANS = 4_096
export const TRACING_SEND_EVERY_MS = 2_000
export const TRACING_EXPORT_MS = 5_000

/** Longest wait for the last spans to be sent at stop, ms. */
export const TRACING_STOP_MS = 1_500

/** Different error codes given their own metric label; later ones count as `OTHER`, so that labels stay bounded. */
export const ERROR_CODE_LABELS = 64
