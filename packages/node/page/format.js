/** Numbers, times and names as a person reads them. Pure. */

const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })
const grouped = new Intl.NumberFormat('en')

/** Three significant digits: 0.0123, 1.23, 12.3; whole numbers grouped; small ones in powers of ten. */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–'
  if (Number.isInteger(value)) return grouped.format(value)
  const size = Math.abs(value)
  if (size >= 1000) return grouped.format(Math.round(value))
  if (size > 0 && size < 0.001) return value.toExponential(1).replace('e-', 'e−').replace(/^-/, '−')
  return Number(value.toPrecision(3)).toString().replace('-', '−')
}

/** 1.2K, 3.4M. */
export function short(value) {
  return compact.format(value)
}

/** 5.6 MB, in powers of 1000 as networks and disks are counted. */
export function bytes(value) {
  if (!Number.isFinite(value)) return '–'
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
  const power = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3))
  const scaled = value / 1000 ** power
  return `${power === 0 ? scaled : scaled.toFixed(scaled < 10 ? 2 : scaled < 100 ? 1 : 0)} ${units[power]}`
}

/** 240 ms, 1.34 s, 3 min 20 s. */
export function seconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–'
  if (value === 0) return '0 s'
  if (value < 0.9995) return `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms`
  if (value < 120) return `${value.toFixed(value < 10 ? 2 : 1)} s`
  return span(value)
}

/** 3 d 4 h, 12 min. */
export function span(value) {
  const parts = [
    ['d', 86400],
    ['h', 3600],
    ['min', 60],
    ['s', 1],
  ]
  const start = parts.findIndex(([, size]) => value >= size)
  if (start < 0) return '0 s'
  let rest = Math.floor(value)
  return parts
    .slice(start, start + 2)
    .map(([unit, size]) => {
      const count = Math.floor(rest / size)
      rest -= count * size
      return count > 0 ? `${count} ${unit}` : ''
    })
    .filter((text) => text !== '')
    .join(' ')
}

/** A time of today as 14:03:22, an older one with its date. */
export function time(ms) {
  const at = new Date(ms)
  const clock = at.toLocaleTimeString('en-GB')
  if (Date.now() - ms < 12 * 3_600_000) return clock
  return `${at.toLocaleDateString('en-CA').slice(5)} ${clock.slice(0, 5)}`
}

/** The end of a peer id: the beginning is the same for all Ed25519 peers. */
export function peer(id) {
  return id.length > 8 ? `…${id.slice(-6)}` : id
}

/** waiting_for_peers as a person says it. */
export function state(name) {
  return name.replaceAll('_', ' ')
}
