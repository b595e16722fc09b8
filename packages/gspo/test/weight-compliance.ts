/** What every engine must do with frozen weights: the same numbers however their file holds them. */
import assert from 'node:assert/strict'
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { CompileOptions, Engine, Feed } from '../src/engine/engine.ts'
import { GraphBuilder } from '../src/graph/graph.ts'
import type { StoredType, WeightSource } from '../src/graph/ops.ts'
import { dequantiseBytes, dequantiseRows, quantiseBytes, quantiseRows } from '../src/weights/quantise.ts'
import { numbers } from './primitive-cases.ts'

const [ROWS, COLUMNS, BLOCK] = [64, 64, 32]

/** Products in 8-bit integers, where an engine has them, are off by a share of the largest number. */
const INTEGER_TOLERANCE = 0.02
const FLOAT_TOLERANCE = 1e-5

/** A file that holds one matrix in every way, and the numbers that each stands for. */
function writeWeights(folder: string): Record<StoredType, { source: WeightSource; values: Float32Array }> {
  const file = path.join(folder, 'weights.bin')
  // Halves of small integers: exact in 16 bits too.
  const exact = Float32Array.from(numbers(ROWS * COLUMNS, 41), (x) => Math.round(8 * x) / 2)
  const codes = quantiseRows(exact, BLOCK)
  const head = quantiseBytes(exact, BLOCK)
  const bytesOf = (part: ArrayBufferView): Uint8Array =>
    new Uint8Array(part.buffer, part.byteOffset, part.byteLength)
  const parts: Uint8Array[] = []
  const place = (part: ArrayBufferView): { offset: number; byteLength: number } => {
    const offset = parts.reduce((sum, { length }) => sum + length, 0)
    parts.push(bytesOf(part))
    return { offset, byteLength: part.byteLength }
  }
  const source = (stored: StoredType, part: ArrayBufferView): WeightSource => ({
    name: 'w',
    file,
    shape: [ROWS, COLUMNS],
    stored,
    ...place(part),
  })
  const scaled = (
    stored: StoredType,
    part: ArrayBufferView,
    scales: Float32Array,
    block: number,
  ): WeightSource => ({
    ...source(stored, part),
    scales: {
      block,
      offset: place(scales).offset,
      zerosOffset: place(
        stored === 'U4'
          ? new Uint8Array((ROWS * COLUMNS) / BLOCK / 2).fill(0x88)
          : new Uint8Array((ROWS * COLUMNS) / BLOCK).fill(0x80),
      ).offset,
    },
  })
  const upper = Uint16Array.from(new Uint32Array(exact.buffer), (word) => word >>> 16)
  const made = {
    F32: { source: source('F32', exact), values: exact },
    F16: { source: source('F16', Float16Array.from(exact)), values: exact },
    BF16: { source: source('BF16', upper), values: exact },
    U4: { source: scaled('U4', codes.codes, codes.scales, BLOCK), values: dequantiseRows(codes, BLOCK) },
    U8: { source: scaled('U8', head.codes, head.scales, BLOCK), values: dequantiseBytes(head, BLOCK) },
  }
  writeFileSync(file, Buffer.concat(parts))
  return made
}

/** x W^T in float64. */
function product(x: Float32Array, weight: Float32Array): Float64Array {
  const rows = x.length / COLUMNS
  return Float64Array.from({ length: rows * ROWS }, (_, i) => {
    const [row, column] = [Math.floor(i / ROWS), i % ROWS]
    let sum = 0
    for (let k = 0; k < COLUMNS; k++)
      sum += (x[row * COLUMNS + k] ?? NaN) * (weight[column * COLUMNS + k] ?? NaN)
    return sum
  })
}

function assertNear(seen: Feed | undefined, expected: ArrayLike<number>, share: number): void {
  const largest = Array.from(expected, Math.abs).reduce((a, b) => Math.max(a, b), 0)
  assert.equal(seen?.values.length, expected.length)
  const worst = Array.from(expected, (value, i) => Math.abs((seen.values[i] ?? NaN) - value)).reduce((a, b) =>
    Math.max(a, b),
  )
  assert.ok(worst <= share * largest, `off by ${worst}, the largest is ${largest}`)
}

/** Registers the suite inside the one of an engine. */
export function weightCompliance(engine: () => Engine): void {
  describe('frozen weights', () => {
    let folder: string
    let weights: ReturnType<typeof writeWeights>
    before(() => {
      folder = realpathSync(mkdtempSync(path.join(tmpdir(), 'gym-weights-test-')))
      weights = writeWeights(folder)
    })
    after(() => rmSync(folder, { recursive: true, force: true }))

    const x: Feed = { dims: [3, COLUMNS], values: Float32Array.from(numbers(3 * COLUMNS, 42)) }
    const multiply = async (
      stored: StoredType,
      layout: CompileOptions['weights'],
    ): Promise<Feed | undefined> => {
      const g = new GraphBuilder()
      const weight = g.weight(weights[stored].source)
      const graph = g.finish({ y: g.matmul(g.input('x', ['N', COLUMNS]), weight, { transB: true }) })
      const session = await engine().compile(graph, { weights: layout })
      const { y } = await session.run({ x })
      await session.close()
      return y
    }

    for (const stored of ['F32', 'F16', 'BF16', 'U4', 'U8'] as const)
      it(`multiplies with ${stored} as with the floats that it stands for`, async () => {
        const expected = product(Float32Array.from(x.values), weights[stored].values)
        assertNear(await multiply(stored, 'share'), expected, FLOAT_TOLERANCE)
      })

    for (const stored of ['U4', 'U8'] as const)
      it(`multiplies with ${stored} when decoding, in integers at worst`, async () => {
        const expected = product(Float32Array.from(x.values), weights[stored].values)
        assertNear(await multiply(stored, 'repack'), expected, INTEGER_TOLERANCE)
      })

    for (const stored of ['F32', 'F16', 'BF16', 'U4', 'U8'] as const)
      it(`multiplies with some rows of ${stored}, and looks rows up among them`, async () => {
        const { source, values } = weights[stored]
        const [first, end] = [16, 40]
        const g = new GraphBuilder()
        const part = g.slice(g.weight(source), 0, first, end)
        const graph = g.finish({
          y: g.matmul(g.input('x', ['N', COLUMNS]), part, { transB: true }),
          rows: g.gatherRows(part, g.input('i', ['M'], 'i32')),
          // Beside its part the whole matrix stays what it is.
          all: g.gatherRows(g.weight(source), g.input('i', ['M'], 'i32')),
        })
        const session = await engine().compile(graph, { weights: 'share' })
        const { y, rows, all } = await session.run({
          x,
          i: { dims: [2], values: Int32Array.of(end - first - 1, 0) },
        })
        await session.close()
        const whole = product(Float32Array.from(x.values), values)
        const expected = [0, 1, 2].flatMap((row) => [...whole.subarray(row * ROWS + first, row * ROWS + end)])
        assertNear(y, expected, FLOAT_TOLERANCE)
        const row = (index: number): number[] => [...values.subarray(index * COLUMNS, (index + 1) * COLUMNS)]
        assert.deepEqual([...(rows?.values ?? [])], [...row(end - 1), ...row(first)])
        assert.deepEqual([...(all?.values ?? [])], [...row(end - first - 1), ...row(0)])
      })

    for (const stored of ['F32', 'F16', 'BF16', 'U4', 'U8'] as const)
      it(`looks up rows of ${stored}`, async () => {
        const { source, values } = weights[stored]
        const g = new GraphBuilder()
        const graph = g.finish({ rows: g.gatherRows(g.weight(source), g.input('i', ['N'], 'i32')) })
        const session = await engine().compile(graph, { weights: 'share' })
        const { rows } = await session.run({ i: { dims: [2], values: Int32Array.of(5, 0) } })
        await session.close()
        const row = (index: number): number[] => [...values.subarray(index * COLUMNS, (index + 1) * COLUMNS)]
        assert.deepEqual([...(rows?.values ?? [])], [...row(5), ...row(0)])
      })
  })
}
