/** What each path answers. Deciding who may ask is done before, in `http-server.ts`. */
import { READY_LULL_MS, READY_STALL_MS } from '../defaults.ts'
import type { DaemonEvent, DaemonState, DaemonStatus } from '../status.ts'
import {
  HISTORY_POINTS_DEFAULT,
  HISTORY_POINTS_MAX,
  RECENT_ROWS_DEFAULT,
  RECENT_ROWS_MAX,
} from './defaults.ts'
import type { SeriesQuery } from './history-store.ts'
import { isSeriesName, SERIES_NAMES, type SeriesName } from './series.ts'

/** A query that cannot be answered, or the parsed one. */
export type Parsed<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly message: string }

/** Longest time without progress, ms, for which a daemon in this state is ready; the other states never are. */
const READY_FOR_MS: ReadonlyMap<DaemonState, number> = new Map([
  ['training', READY_STALL_MS],
  ['reducing', READY_STALL_MS],
  ['waiting_for_peers', READY_LULL_MS],
  ['syncing', READY_LULL_MS],
  ['validating', Infinity],
  ['paused', Infinity],
])

/** `/healthz`: alive unless the daemon itself says that it failed. */
export function health(status: DaemonStatus): { code: 200 | 503; text: string } {
  return { code: status.state === 'failed' ? 503 : 200, text: `${status.state}: ${status.state_reason}\n` }
}

/**
 * `/readyz`: whether the daemon takes part (or is paused by its operator). Steady over a change of the view, which every
 * member goes through when another one comes or goes; not ready when nothing has moved for long.
 */
export function readiness(status: DaemonStatus): { code: 200 | 503; text: string } {
  const idle = status.seconds_since_progress ?? Infinity
  const limit = (READY_FOR_MS.get(status.state) ?? -Infinity) / 1000
  const stalled = idle > limit && Number.isFinite(idle) ? `, no progress for ${idle.toFixed(0)} s` : ''
  return {
    code: idle <= limit ? 200 : 503,
    text: `${status.state}: ${status.state_reason}${stalled}\n`,
  }
}

/** Parses `/api/history?series=loss,reward_mean&points=400&from=1&to=900`; absent series means all. */
export function parseHistoryQuery(query: URLSearchParams): Parsed<SeriesQuery> {
  const names = query.getAll('series').flatMap((value) => value.split(','))
  const series: SeriesName[] = []
  for (const name of names) {
    if (!isSeriesName(name)) {
      return {
        ok: false,
        message: `series ${JSON.stringify(name.slice(0, 60))} is unknown; there are ${SERIES_NAMES.join(', ')}`,
      }
    }
    series.push(name)
  }
  const points = parseCount(query.get('points'), 1, HISTORY_POINTS_MAX)
  const from = parseCount(query.get('from'), 0, Number.MAX_SAFE_INTEGER)
  const to = parseCount(query.get('to'), 0, Number.MAX_SAFE_INTEGER)
  if (points === undefined)
    return { ok: false, message: `points must be a whole number from 1 to ${HISTORY_POINTS_MAX}` }
  if (from === undefined || to === undefined) {
    return { ok: false, message: 'from and to must be whole numbers: the first and last step or round' }
  }
  return {
    ok: true,
    value: {
      series: series.length > 0 ? series : SERIES_NAMES,
      points: points ?? HISTORY_POINTS_DEFAULT,
      from,
      to,
    },
  }
}

/** Parses `/api/recent?type=delta&limit=40`; `type=log` is everything but deltas and rollouts. */
export function parseRecentQuery(
  query: URLSearchParams,
): Parsed<{ type: DaemonEvent['type'] | null; limit: number }> {
  const limit = parseCount(query.get('limit'), 1, RECENT_ROWS_MAX)
  if (limit === undefined)
    return { ok: false, message: `limit must be a whole number from 1 to ${RECENT_ROWS_MAX}` }
  const type = query.get('type') ?? 'log'
  switch (type) {
    case 'log':
      return { ok: true, value: { type: null, limit: limit ?? RECENT_ROWS_DEFAULT } }
    case 'state':
    case 'view':
    case 'delta':
    case 'verdict':
    case 'rollout':
    case 'error':
      return { ok: true, value: { type, limit: limit ?? RECENT_ROWS_DEFAULT } }
    default:
      return { ok: false, message: 'type must be one of log, state, view, delta, verdict, rollout, error' }
  }
}

/** Null when absent, undefined when not a whole number in range. */
function parseCount(text: string | null, min: number, max: number): number | null | undefined {
  if (text === null) return null
  const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN
  return value >= min && value <= max ? value : undefined
}
