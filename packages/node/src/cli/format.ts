/** Numbers, sizes and names as people read them. Pure. */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const
const SECOND_MS = 1_000

/** Bytes in decimal units: 1.2 MB. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1_000 && unit < UNITS.length - 1) {
    value /= 1_000
    unit++
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit] ?? 'B'}`
}

/** A duration in its two largest units: 840 ms, 4.2 s, 3 min 12 s, 2 h 5 min. */
export function formatDuration(ms: number): string {
  if (ms < SECOND_MS) return `${Math.round(ms)} ms`
  const seconds = ms / SECOND_MS
  if (seconds < 60) return `${seconds.toFixed(1)} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** A large count: 820,992 or 1.2 M. */
export function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(1)} G`
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} M`
  return Math.round(count).toLocaleString('en-US')
}

/**
 * A loss with three digits that say something: 0.0123, or -1.2e-7. On-policy GSPO has losses close to 0, since
 * advantages are centred in their group; the gradient is not close to 0.
 */
export function formatLoss(loss: number | null): string {
  if (loss === null || !Number.isFinite(loss)) return '–'
  if (loss === 0) return '0'
  return Math.abs(loss) >= 1e-3 ? loss.toPrecision(3) : loss.toExponential(1)
}

/** A share as per cent: 35.1 %. */
export function formatPercent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}

/** A peer id that fits into a table: its last characters tell peers apart, its first are the same for all. */
export function shortPeer(peerId: string): string {
  return peerId.length > 12 ? `…${peerId.slice(-8)}` : peerId
}
