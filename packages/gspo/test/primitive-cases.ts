/** One small graph for each primitive, with inputs away from kinks: for gradients and for engines alike. */
import type { GraphBuilder } from '../src/graph/graph.ts'
import type { Tensor } from '../src/graph/ops.ts'
import type { Value } from './reference-engine.ts'

/** A primitive applied to inputs; `wanted` are the inputs that have a gradient. */
export interface PrimitiveCase {
  readonly name: string
  readonly feeds: Readonly<Record<string, Value>>
  readonly wanted: readonly string[]
  build(g: GraphBuilder, input: (name: string) => Tensor): Tensor
}

/** Deterministic numbers in (-1, 1), none near 0 or near another. */
export function numbers(count: number, seed: number): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => {
    const value = Math.sin(12.9898 * (i + 1) + 78.233 * seed) * 43758.5453
    const unit = 2 * (value - Math.floor(value)) - 1
    return unit + (unit < 0 ? -0.05 : 0.05)
  })
}

function floats(dims: readonly number[], seed: number, map: (x: number) => number = (x) => x): Value {
  return {
    dims,
    values: numbers(
      dims.reduce((a, b) => a * b, 1),
      seed,
    ).map(map),
  }
}

function integers(dims: readonly number[], values: readonly number[]): Value {
  return { dims, values: Float64Array.from(values) }
}

const positive = (x: number): number => Math.abs(x) + 0.3

/** Every primitive that can stand in a graph between inputs and outputs. */
export const PRIMITIVE_CASES: readonly PrimitiveCase[] = [
  ...(['add', 'sub', 'mul', 'div', 'min', 'max'] as const).flatMap((kind): PrimitiveCase[] => [
    {
      name: `${kind} of equal shapes`,
      feeds: { a: floats([2, 3], 1), b: floats([2, 3], 2) },
      wanted: ['a', 'b'],
      build: (g, input) => g.binary(kind, input('a'), input('b')),
    },
    {
      name: `${kind} with broadcasting on both sides`,
      feeds: { a: floats([2, 1, 3], 3), b: floats([4, 1], 4) },
      wanted: ['a', 'b'],
      build: (g, input) => g.binary(kind, input('a'), input('b')),
    },
  ]),
  ...(['neg', 'exp', 'sigmoid', 'softplus'] as const).map((kind): PrimitiveCase => ({
    name: kind,
    feeds: { a: floats([2, 3], 5) },
    wanted: ['a'],
    build: (g, input) => g.unary(kind, input('a')),
  })),
  ...(['log', 'sqrt'] as const).map((kind): PrimitiveCase => ({
    name: kind,
    feeds: { a: floats([2, 3], 6, positive) },
    wanted: ['a'],
    build: (g, input) => g.unary(kind, input('a')),
  })),
  {
    name: 'where over a comparison',
    feeds: { a: floats([2, 3], 7), b: floats([2, 3], 8) },
    wanted: ['a', 'b'],
    build: (g, input) =>
      g.where(g.binary('less', input('a'), input('b')), g.mul(input('a'), input('a')), input('b')),
  },
  ...[
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ].flatMap(([transA = false, transB = false]): PrimitiveCase[] => [
    {
      name: `matmul of matrices, transposed ${transA} ${transB}`,
      feeds: { a: floats(transA ? [4, 2] : [2, 4], 9), b: floats(transB ? [3, 4] : [4, 3], 10) },
      wanted: ['a', 'b'],
      build: (g, input) => g.matmul(input('a'), input('b'), { transA, transB, alpha: 0.5 }),
    },
    {
      name: `matmul of batches, transposed ${transA} ${transB}`,
      feeds: { a: floats(transA ? [2, 4, 2] : [2, 2, 4], 11), b: floats(transB ? [2, 3, 4] : [2, 4, 3], 12) },
      wanted: ['a', 'b'],
      build: (g, input) => g.matmul(input('a'), input('b'), { transA, transB }),
    },
  ]),
  {
    name: 'softmax',
    feeds: { a: floats([2, 2, 4], 13) },
    wanted: ['a'],
    build: (g, input) => g.softmax(input('a')),
  },
  {
    name: 'sum over two axes',
    feeds: { a: floats([2, 3, 4], 14) },
    wanted: ['a'],
    build: (g, input) => g.sum(input('a'), [0, 2]),
  },
  {
    name: 'sum over one axis, kept',
    feeds: { a: floats([2, 3, 4], 15) },
    wanted: ['a'],
    build: (g, input) => g.sum(input('a'), [1], true),
  },
  {
    name: 'maximum',
    feeds: { a: floats([2, 5], 16) },
    wanted: [],
    build: (g, input) => g.maximum(input('a'), [1]),
  },
  {
    name: 'reshape and expand',
    feeds: { a: floats([2, 3], 17) },
    wanted: ['a'],
    build: (g, input) => g.expand(g.reshape(input('a'), [3, 1, 2]), [3, 4, 2]),
  },
  {
    name: 'transpose',
    feeds: { a: floats([2, 3, 4], 18) },
    wanted: ['a'],
    build: (g, input) => g.transpose(input('a'), [2, 0, 1]),
  },
  {
    name: 'slices that tile an axis',
    feeds: { a: floats([2, 5], 19) },
    wanted: ['a'],
    build: (g, input) => {
      const [left, right] = [g.slice(input('a'), 1, 0, 2), g.slice(input('a'), 1, 2, 5)]
      return g.add(g.sum(g.mul(left, left), [1]), g.sum(g.unary('exp', right), [1]))
    },
  },
  {
    name: 'slices that overlap and leave gaps',
    feeds: { a: floats([6, 2], 20) },
    wanted: ['a'],
    build: (g, input) => g.mul(g.slice(input('a'), 0, 1, 4), g.slice(input('a'), 0, 2, 5)),
  },
  {
    name: 'concat',
    feeds: { a: floats([2, 3], 21), b: floats([2, 1], 22) },
    wanted: ['a', 'b'],
    build: (g, input) => g.concat([input('a'), input('b'), input('a')], 1),
  },
  {
    name: 'gatherRows with a repeated row',
    feeds: { a: floats([4, 2], 23), i: integers([3], [2, 0, 2]) },
    wanted: ['a'],
    build: (g, input) => g.gatherRows(input('a'), input('i')),
  },
  {
    name: 'scatterAddRows where rows meet',
    feeds: { a: floats([3, 2], 24), i: integers([3], [1, 3, 1]) },
    wanted: ['a'],
    build: (g, input) => g.scatterAddRows(input('a'), input('i'), 4),
  },
  {
    name: 'pick',
    feeds: { a: floats([2, 5], 25), i: integers([2, 2], [4, 1, 0, 3]) },
    wanted: ['a'],
    build: (g, input) => g.pick(input('a'), input('i')),
  },
  {
    name: 'scatterPick',
    feeds: { a: floats([2, 2], 26), i: integers([2, 2], [4, 1, 0, 3]) },
    wanted: ['a'],
    build: (g, input) => g.scatterPick(input('a'), input('i'), 5),
  },
  {
    name: 'topIndices',
    feeds: { a: floats([3, 5], 27) },
    wanted: [],
    build: (g, input) => g.topIndices(input('a'), 2),
  },
  {
    name: 'nonZero and what is gathered with it',
    feeds: { a: floats([5], 28) },
    wanted: ['a'],
    build: (g, input) => {
      const isNegative = g.binary('less', input('a'), g.constant(0))
      const rows = g.gatherRows(input('a'), g.nonZero(isNegative))
      return g.sum(g.mul(rows, rows), [0])
    },
  },
  {
    name: 'nonZero of a matrix',
    feeds: { a: floats([3, 4], 39) },
    wanted: [],
    build: (g, input) => g.cast(g.nonZero(g.binary('less', input('a'), g.constant(0))), 'f32'),
  },
  ...[true, false].map((transB): PrimitiveCase => ({
    name: `groupMatmul with a group of no rows, transposed ${transB}`,
    feeds: {
      a: floats([6, 3], 40),
      i: integers([4], [2, 0, 3, 1]),
      ...Object.fromEntries(
        [0, 1, 2, 3].map((group) => [`w${group}`, floats(transB ? [2, 3] : [3, 2], 41 + group)]),
      ),
    },
    wanted: ['a', 'w0', 'w1', 'w2', 'w3'],
    build: (g, input) =>
      g.groupMatmul(input('a'), input('i'), ['w0', 'w1', 'w2', 'w3'].map(input), { transB, alpha: 0.5 }),
  })),
  {
    name: 'rmsNorm',
    feeds: { a: floats([3, 4], 29), w: floats([4], 30) },
    wanted: ['a', 'w'],
    build: (g, input) => g.rmsNorm(input('a'), input('w'), 1e-6),
  },
  {
    name: 'inverseRms of its own',
    feeds: { a: floats([3, 4], 31) },
    wanted: [],
    build: (g, input) => g.inverseRms(input('a'), 1e-6),
  },
  {
    name: 'stopGradient',
    feeds: { a: floats([2, 3], 35) },
    wanted: [],
    build: (g, input) => g.stopGradient(input('a')),
  },
  {
    name: 'attachGradient, forward',
    feeds: { a: floats([3], 36), b: floats([3, 2], 37), c: floats([3, 2], 38) },
    wanted: [],
    build: (g, input) => g.attachGradient(input('a'), input('b'), input('c')),
  },
  ...[2, 1].map((pairs): PrimitiveCase => ({
    name: `rope of ${2 * pairs} of 4 numbers a head`,
    feeds: {
      a: floats([3, 1, 8], 32),
      i: integers([3, 1], [0, 2, 1]),
      cos: floats([3, pairs], 33),
      sin: floats([3, pairs], 34),
    },
    wanted: ['a'],
    build: (g, input) => g.rope(input('a'), input('i'), input('cos'), input('sin'), 2),
  })),
]

/** Inputs of a case whose values are indices. */
export function isIndexInput(name: string): boolean {
  return name === 'i'
}
