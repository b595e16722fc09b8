/** Rows of a frozen matrix as a frozen matrix of their own: the same bytes of the same file, nothing copied. */
import { GspoError } from '../errors.ts'
import type { Tensor, WeightSource } from './ops.ts'

/**
 * The source of a tensor that is a frozen weight, or some rows of one; undefined for anything computed.
 * Engines that read weights where they lie need no copy for either.
 */
export function frozenSource({ op, inputs }: Tensor): WeightSource | undefined {
  if (op.kind === 'weight') return op.source
  const whole = inputs[0]?.op
  if (op.kind !== 'slice' || op.axis !== 0 || whole?.kind !== 'weight') return undefined
  const { start, end } = op
  return typeof start === 'number' && typeof end === 'number'
    ? weightRows(whole.source, start, end)
    : undefined
}

/**
 * Rows `start` to `end` of a matrix. Throws BAD_GRAPH where they do not begin at a whole byte of codes, scales and codes
 * of zero.
 */
export function weightRows(source: WeightSource, start: number, end: number): WeightSource {
  const [rows = 0, ...rest] = source.shape
  const width = rest.reduce((product, size) => product * size, 1)
  const rowBytes = source.byteLength / rows
  const { scales } = source
  const blocks = scales === undefined ? 0 : width / scales.block
  if (
    !(start >= 0 && start < end && end <= rows) ||
    !isWhole(start * rowBytes) ||
    !isWhole((start * blocks) / 2)
  )
    throw new GspoError(
      'BAD_GRAPH',
      `${source.name} has no rows ${start} to ${end} that lie apart, of ${rows}`,
    )
  const part: WeightSource = {
    ...source,
    name: `${source.name}[${start}:${end}]`,
    offset: source.offset + start * rowBytes,
    byteLength: (end - start) * rowBytes,
    shape: [end - start, ...rest],
  }
  if (scales === undefined) return part
  const offset = scales.offset + start * blocks * Float32Array.BYTES_PER_ELEMENT
  // A code of zero takes as much as any code.
  const zeroBytes = source.stored === 'U8' ? 1 : 0.5
  const zerosOffset = scales.zerosOffset + start * blocks * zeroBytes
  return { ...part, scales: { ...scales, offset, zerosOffset } }
}

function isWhole(value: number): boolean {
  return Number.isInteger(value)
}
