/** The plainest interpreter of a graph, in float64: what engines and gradients are checked against. Slow on purpose. */
import { evalDim, type Shape } from '../src/graph/dims.ts'
import type { Graph } from '../src/graph/graph.ts'
import type { Tensor } from '../src/graph/ops.ts'

/** A value in float64, whatever the graph's type. */
export interface Value {
  readonly dims: readonly number[]
  readonly values: Float64Array
}

/** Runs a graph; weights are not supported, feed them as inputs. */
export function runReference(graph: Graph, feeds: Readonly<Record<string, Value>>): Record<string, Value> {
  const sizes = new Map<string, number>()
  for (const { name, shape } of graph.inputs) {
    const feed = required(feeds[name], `input ${name}`)
    shape.forEach((dim, axis) => {
      if (typeof dim === 'string' && /^\w+$/.test(dim)) sizes.set(dim, feed.dims[axis] ?? NaN)
    })
  }
  const known = new Map<Tensor, Value>()
  for (const tensor of graph.tensors) {
    const inputs = tensor.inputs.map((input) => required(known.get(input), 'an earlier tensor'))
    const value = evaluate(tensor, inputs, feeds, sizes)
    tensor.shape.forEach((dim, axis) => {
      if (tensor.op.kind === 'nonZero' && typeof dim === 'string') sizes.set(dim, value.dims[axis] ?? NaN)
    })
    known.set(tensor, value)
  }
  return Object.fromEntries(
    graph.outputs.map(({ name, tensor }) => [name, required(known.get(tensor), `output ${name}`)]),
  )
}

function evaluate(
  tensor: Tensor,
  inputs: readonly Value[],
  feeds: Readonly<Record<string, Value>>,
  sizes: ReadonlyMap<string, number>,
): Value {
  const { op } = tensor
  const dims = tensor.op.kind === 'nonZero' ? [] : concrete(tensor.shape, sizes)
  const first = inputs[0] ?? { dims: [], values: new Float64Array(0) }
  const second = inputs[1] ?? first
  const third = inputs[2] ?? first
  const make = (fill: (index: readonly number[]) => number): Value => fillValue(dims, fill)
  const size = first.dims.at(-1) ?? 1
  switch (op.kind) {
    case 'input':
      return required(feeds[op.name], op.name)
    case 'weight':
      throw new Error('the reference has no weights')
    case 'constant':
      return { dims, values: Float64Array.from(op.values) }
    case 'add':
      return make((i) => at(first, i) + at(second, i))
    case 'sub':
      return make((i) => at(first, i) - at(second, i))
    case 'mul':
      return make((i) => at(first, i) * at(second, i))
    case 'div':
      return make((i) => at(first, i) / at(second, i))
    case 'min':
      return make((i) => Math.min(at(first, i), at(second, i)))
    case 'max':
      return make((i) => Math.max(at(first, i), at(second, i)))
    case 'less':
      return make((i) => Number(at(first, i) < at(second, i)))
    case 'equal':
      return make((i) => Number(at(first, i) === at(second, i)))
    case 'where':
      return make((i) => (at(first, i) === 0 ? at(third, i) : at(second, i)))
    case 'neg':
      return make((i) => -at(first, i))
    case 'exp':
      return make((i) => Math.exp(at(first, i)))
    case 'log':
      return make((i) => Math.log(at(first, i)))
    case 'sqrt':
      return make((i) => Math.sqrt(at(first, i)))
    case 'sigmoid':
      return make((i) => 1 / (1 + Math.exp(-at(first, i))))
    case 'softplus':
      return make((i) => Math.log1p(Math.exp(at(first, i))))
    case 'cast':
      return make((i) => (tensor.dtype === 'bool' ? Number(at(first, i) !== 0) : at(first, i)))
    case 'matmul': {
      const inner = first.dims[first.dims.length - (op.transA ? 2 : 1)] ?? 0
      return make((i) => {
        const lead = i.slice(0, -2)
        const [row = 0, column = 0] = i.slice(-2)
        let sum = 0
        for (let k = 0; k < inner; k++)
          sum +=
            at(first, [...lead, ...(op.transA ? [k, row] : [row, k])]) *
            at(second, [...lead, ...(op.transB ? [column, k] : [k, column])])
        return op.alpha * sum
      })
    }
    case 'softmax':
      return make((i) => {
        const row = Array.from({ length: size }, (_, k) => at(first, [...i.slice(0, -1), k]))
        const most = Math.max(...row)
        const total = row.reduce((sum, x) => sum + Math.exp(x - most), 0)
        return Math.exp(at(first, i) - most) / total
      })
    case 'sum':
    case 'maximum':
      return reduce(first, op.axes, dims, op.keepDims, op.kind)
    case 'reshape':
      return { dims, values: first.values }
    case 'expand':
      return make((i) => at(first, i))
    case 'transpose':
      return make((i) => at(first, inverse(op.perm, i)))
    case 'slice': {
      const start = evalDim(op.start, sizes)
      return make((i) => at(first, replace(i, op.axis, (i[op.axis] ?? 0) + start)))
    }
    case 'concat':
      return make((i) => {
        let place = i[op.axis] ?? 0
        for (const part of inputs) {
          const width = part.dims[op.axis] ?? 0
          if (place < width) return at(part, replace(i, op.axis, place))
          place -= width
        }
        return NaN
      })
    case 'gatherRows':
      return make((i) => at(first, replace(i, 0, at(second, [i[0] ?? 0]))))
    case 'scatterAddRows': {
      const out = fillValue(dims, () => 0)
      eachIndex(first.dims, (i, flat) => {
        const to = offsetOf(dims, replace(i, 0, at(second, [i[0] ?? 0])))
        out.values[to] = (out.values[to] ?? 0) + (first.values[flat] ?? 0)
      })
      return out
    }
    case 'pick':
      return make((i) => at(first, [i[0] ?? 0, at(second, i)]))
    case 'scatterPick': {
      const out = fillValue(dims, () => 0)
      eachIndex(first.dims, (i, flat) => {
        const to = offsetOf(dims, [i[0] ?? 0, at(second, i)])
        out.values[to] = (out.values[to] ?? 0) + (first.values[flat] ?? 0)
      })
      return out
    }
    case 'topIndices':
      return make((i) => {
        const row = Array.from({ length: size }, (_, k) => at(first, [...i.slice(0, -1), k]))
        const order = row.map((_, k) => k).sort((a, b) => (row[b] ?? 0) - (row[a] ?? 0) || a - b)
        return order[i.at(-1) ?? 0] ?? NaN
      })
    case 'groupMatmul': {
      const matrices = inputs.slice(2)
      const inner = first.dims[1] ?? 0
      return make(([row = 0, column = 0]) => {
        const matrix = required(matrices[groupOf(second, row)], 'a matrix')
        let sum = 0
        for (let k = 0; k < inner; k++)
          sum += at(first, [row, k]) * at(matrix, op.transB ? [column, k] : [k, column])
        return op.alpha * sum
      })
    }
    case 'groupOuter': {
      const [rows = 0, width = 1] = first.dims
      return make(([place = 0, column = 0]) => {
        let sum = 0
        for (let row = 0; row < rows; row++)
          if (groupOf(third, row) === Math.floor(place / width))
            sum += at(first, [row, place % width]) * at(second, [row, column])
        return op.alpha * sum
      })
    }
    case 'nonZero': {
      const places: number[][] = []
      eachIndex(first.dims, (index, flat) => {
        if (first.values[flat] !== 0) places.push(index)
      })
      const coordinates = first.dims.flatMap((_, axis) => places.map((place) => place[axis] ?? NaN))
      return { dims: [first.dims.length, places.length], values: Float64Array.from(coordinates) }
    }
    case 'rmsNorm':
      return make((i) => at(first, i) * inverseRms(first, i, op.epsilon) * at(second, [i.at(-1) ?? 0]))
    case 'inverseRms':
      return make((i) => inverseRms(first, i, op.epsilon))
    case 'rope':
      return make((i) => rope(inputs, i, op.heads))
    case 'stopGradient':
    case 'attachGradient':
      return first
  }
}

/** The group that a row belongs to, by how many rows each has. */
function groupOf({ values }: Value, row: number): number {
  let end = 0
  return values.findIndex((count) => row < (end += count))
}

function inverseRms(x: Value, index: readonly number[], epsilon: number): number {
  const size = x.dims.at(-1) ?? 1
  let squares = 0
  for (let k = 0; k < size; k++) squares += at(x, [...index.slice(0, -1), k]) ** 2
  return 1 / Math.sqrt(squares / size + epsilon)
}

function rope([x, positions, cos, sin]: readonly Value[], index: readonly number[], heads: number): number {
  const [input, table] = [required(x, 'x'), required(cos, 'cos')]
  const [row = 0, token = 0, column = 0] = index
  const headSize = (input.dims[2] ?? 0) / heads
  const pairs = table.dims[1] ?? 0
  const [base, place] = [column - (column % headSize), column % headSize]
  if (place >= 2 * pairs) return at(input, index)
  const position = at(required(positions, 'positions'), [row, token])
  const pair = place % pairs
  const c = at(table, [position, pair])
  const s = at(required(sin, 'sin'), [position, pair])
  const low = at(input, [row, token, base + pair])
  const high = at(input, [row, token, base + pair + pairs])
  return place < pairs ? low * c - high * s : high * c + low * s
}

function reduce(
  x: Value,
  axes: readonly number[],
  dims: readonly number[],
  keepDims: boolean,
  kind: 'sum' | 'maximum',
): Value {
  const out = fillValue(dims, () => (kind === 'sum' ? 0 : -Infinity))
  eachIndex(x.dims, (i, flat) => {
    const to = keepDims
      ? i.map((place, axis) => (axes.includes(axis) ? 0 : place))
      : i.filter((_, axis) => !axes.includes(axis))
    const offset = offsetOf(dims, to)
    const [old, value] = [out.values[offset] ?? 0, x.values[flat] ?? 0]
    out.values[offset] = kind === 'sum' ? old + value : Math.max(old, value)
  })
  return out
}

function concrete(shape: Shape, sizes: ReadonlyMap<string, number>): number[] {
  return shape.map((dim) => evalDim(dim, sizes))
}

function fillValue(dims: readonly number[], fill: (index: readonly number[]) => number): Value {
  const values = new Float64Array(dims.reduce((product, dim) => product * dim, 1))
  eachIndex(dims, (index, flat) => (values[flat] = fill(index)))
  return { dims, values }
}

function eachIndex(dims: readonly number[], visit: (index: number[], flat: number) => void): void {
  const count = dims.reduce((product, dim) => product * dim, 1)
  for (let flat = 0; flat < count; flat++) {
    const index: number[] = []
    let rest = flat
    for (const dim of dims.toReversed()) {
      index.unshift(rest % dim)
      rest = Math.floor(rest / dim)
    }
    visit(index, flat)
  }
}

/** An element, with NumPy's broadcasting of the index. */
function at(value: Value, index: readonly number[]): number {
  const skip = index.length - value.dims.length
  const own = value.dims.map((dim, axis) => (dim === 1 ? 0 : (index[axis + skip] ?? 0)))
  return value.values[offsetOf(value.dims, own)] ?? NaN
}

function offsetOf(dims: readonly number[], index: readonly number[]): number {
  return dims.reduce((offset, dim, axis) => offset * dim + (index[axis] ?? 0), 0)
}

function replace(index: readonly number[], axis: number, place: number): number[] {
  return index.map((old, at) => (at === axis ? place : old))
}

function inverse(perm: readonly number[], index: readonly number[]): number[] {
  const source: number[] = []
  perm.forEach((axis, to) => (source[axis] = index[to] ?? 0))
  return source
}

function required<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`${what} is missing`)
  return value
}
