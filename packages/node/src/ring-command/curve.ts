/** A curve out of block characters: eight steps a row, as many rows as asked. Pure. */

const BLOCKS = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'] as const
const STEPS = 8

/** Where a curve is drawn: characters wide and high, and the values of its bottom and top. */
export interface CurveFrame {
  readonly width: number
  readonly height: number
  readonly low: number
  readonly high: number
}

/**
 * The rows of the curve, top first, each `width` characters or fewer. More values than columns are averaged in
 * equal stretches, so that the curve always shows the whole run; the newest value is at the right.
 */
export function drawCurve(values: readonly number[], frame: CurveFrame): string[] {
  const columns = resample(values, frame.width)
  const span = frame.high - frame.low || 1
  const levels = columns.map((value) => {
    const share = Math.min(1, Math.max(0, (value - frame.low) / span))
    return Math.max(1, Math.round(share * frame.height * STEPS))
  })
  const rows: string[] = []
  for (let row = frame.height - 1; row >= 0; row--) {
    rows.push(
      levels.map((level) => BLOCKS[Math.min(STEPS, Math.max(0, level - row * STEPS))] ?? ' ').join(''),
    )
  }
  return rows
}

/** A horizontal bar of `width` characters that is filled to `share` (0 to 1), an eighth of a character exact. */
export function drawBar(share: number, width: number): string {
  const PARTS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'] as const
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * width * STEPS)
  const full = Math.floor(eighths / STEPS)
  return ('█'.repeat(full) + (PARTS[eighths % STEPS] ?? '')).padEnd(width, ' ')
}

/** Bounds of an axis that hold all values, with a little air, inside [0, 1] when the values are. */
export function axisBounds(values: readonly number[]): { low: number; high: number } {
  if (values.length === 0) return { low: 0, high: 1 }
  const least = Math.min(...values)
  const most = Math.max(...values)
  const air = Math.max(0.02, 0.1 * (most - least))
  const inUnit = least >= 0 && most <= 1
  return {
    low: inUnit ? Math.max(0, least - air) : least - air,
    high: inUnit ? Math.min(1, most + air) : most + air,
  }
}

function resample(values: readonly number[], width: number): number[] {
  if (values.length <= width) return [...values]
  const columns: number[] = []
  for (let column = 0; column < width; column++) {
    const from = Math.floor((column * values.length) / width)
    const to = Math.max(from + 1, Math.floor(((column + 1) * values.length) / width))
    const part = values.slice(from, to)
    columns.push(part.reduce((sum, value) => sum + value, 0) / part.length)
  }
  return columns
}
