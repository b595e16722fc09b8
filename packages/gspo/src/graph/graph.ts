/** A graph under construction: operations in topological order with inferred shapes; equal operations are built once. */
import { GspoError } from '../errors.ts'
import { addDims, broadcastShapes, mulDims, sameShape, subDims, type Dim, type Shape } from './dims.ts'
import type { BinaryKind, DType, Op, Tensor, UnaryKind, WeightSource } from './ops.ts'

/** What a caller may feed: name, shape with symbols, element type. */
export interface InputSpec {
  readonly name: string
  readonly shape: Shape
  readonly dtype: DType
}

/** A finished graph: named outputs over tensors in topological order. */
export interface Graph {
  readonly tensors: readonly Tensor[]
  readonly inputs: readonly InputSpec[]
  readonly outputs: readonly { readonly name: string; readonly tensor: Tensor }[]
}

/** Builds a graph; every method appends one operation and throws BAD_GRAPH when shapes do not fit. */
export class GraphBuilder {
  private readonly tensors: Tensor[] = []
  private readonly inputs = new Map<string, InputSpec>()
  private readonly known = new Map<string, Tensor>()
  private unknownSizes = 0

  /** The graph with the given outputs, without operations that no output needs. */
  finish(outputs: Record<string, Tensor>): Graph {
    const needed = new Set<Tensor>()
    const pending = Object.values(outputs)
    for (let tensor = pending.pop(); tensor !== undefined; tensor = pending.pop()) {
      if (needed.has(tensor)) continue
      needed.add(tensor)
      pending.push(...tensor.inputs)
    }
    const usedInputs = new Set([...needed].flatMap(({ op }) => (op.kind === 'input' ? [op.name] : [])))
    return {
      tensors: this.tensors.filter((tensor) => needed.has(tensor)),
      inputs: [...this.inputs.values()].filter(({ name }) => usedInputs.has(name)),
      outputs: Object.entries(outputs).map(([name, tensor]) => ({ name, tensor })),
    }
  }

  /** A tensor fed at each run; asking again for the same name gives the same tensor. */
  input(name: string, shape: Shape, dtype: DType = 'f32'): Tensor {
    if (!this.inputs.has(name)) this.inputs.set(name, { name, shape, dtype })
    return this.append({ kind: 'input', name }, [], shape, dtype)
  }

  /** A frozen tensor. */
  weight(source: WeightSource): Tensor {
    return this.append({ kind: 'weight', source }, [], source.shape, 'f32')
  }

  /** A small constant; a scalar unless a shape is given. */
  constant(values: number | readonly number[], shape: readonly number[] = [], dtype: DType = 'f32'): Tensor {
    const list = typeof values === 'number' ? [values] : values
    const size = shape.reduce((product, dim) => product * dim, 1)
    if (list.length !== size)
      throw new GspoError('BAD_GRAPH', `constant has ${list.length} values, its shape wants ${size}`)
    return this.append({ kind: 'constant', values: list }, [], shape, dtype)
  }

  binary(kind: BinaryKind, a: Tensor, b: Tensor): Tensor {
    if (a.dtype !== b.dtype)
      throw new GspoError('BAD_GRAPH', `${kind} of ${a.dtype} and ${b.dtype}; both must have one type`)
    const dtype = kind === 'less' || kind === 'equal' ? 'bool' : a.dtype
    return this.append({ kind }, [a, b], broadcastShapes(a.shape, b.shape), dtype)
  }

  add(a: Tensor, b: Tensor): Tensor {
    return this.binary('add', a, b)
  }

  sub(a: Tensor, b: Tensor): Tensor {
    return this.binary('sub', a, b)
  }

  mul(a: Tensor, b: Tensor): Tensor {
    return this.binary('mul', a, b)
  }

  div(a: Tensor, b: Tensor): Tensor {
    return this.binary('div', a, b)
  }

  unary(kind: UnaryKind, x: Tensor): Tensor {
    return this.append({ kind }, [x], x.shape, x.dtype)
  }

  cast(x: Tensor, dtype: DType): Tensor {
    return x.dtype === dtype ? x : this.append({ kind: 'cast' }, [x], x.shape, dtype)
  }

  where(condition: Tensor, a: Tensor, b: Tensor): Tensor {
    const shape = broadcastShapes(condition.shape, broadcastShapes(a.shape, b.shape))
    return this.append({ kind: 'where' }, [condition, a, b], shape, a.dtype)
  }

  matmul(a: Tensor, b: Tensor, options: { transA?: boolean; transB?: boolean; alpha?: number } = {}): Tensor {
    const { transA = false, transB = false, alpha = 1 } = options
    const rank = a.shape.length
    const fit = rank >= 2 && rank === b.shape.length && sameShape(a.shape.slice(0, -2), b.shape.slice(0, -2))
    const rows = a.shape[transA ? rank - 1 : rank - 2]
    const innerA = a.shape[transA ? rank - 2 : rank - 1]
    const innerB = b.shape[transB ? rank - 1 : rank - 2]
    const columns = b.shape[transB ? rank - 2 : rank - 1]
    if (!fit || innerA !== innerB || rows === undefined || columns === undefined)
      throw new GspoError('BAD_GRAPH', `matmul of ${describe(a)} (${transA}) and ${describe(b)} (${transB})`)
    const shape = [...a.shape.slice(0, -2), rows, columns]
    return this.append({ kind: 'matmul', transA, transB, alpha }, [a, b], shape, 'f32')
  }

  softmax(x: Tensor): Tensor {
    return this.append({ kind: 'softmax' }, [x], x.shape, 'f32')
  }

  /** Sum over axes. */
  sum(x: Tensor, axes: readonly number[], keepDims = false): Tensor {
    return this.reduce('sum', x, axes, keepDims)
  }

  /** Largest value over axes; it has no gradient. */
  maximum(x: Tensor, axes: readonly number[], keepDims = false): Tensor {
    return this.reduce('maximum', x, axes, keepDims)
  }

  reshape(x: Tensor, shape: Shape): Tensor {
    if (sameShape(x.shape, shape)) return x
    if (mulDims(...x.shape) !== mulDims(...shape))
      throw new GspoError('BAD_GRAPH', `reshape of ${describe(x)} to [${shape.join(', ')}]`)
    // Reshapes in a row are one reshape.
    const source = x.op.kind === 'reshape' && x.inputs[0] !== undefined ? x.inputs[0] : x
    if (sameShape(source.shape, shape)) return source
    return this.append({ kind: 'reshape' }, [source], shape, x.dtype)
  }

  /** Broadcasts to a shape. */
  expand(x: Tensor, shape: Shape): Tensor {
    if (sameShape(x.shape, shape)) return x
    if (!sameShape(broadcastShapes(x.shape, shape), shape))
      throw new GspoError('BAD_GRAPH', `expand of ${describe(x)} to [${shape.join(', ')}]`)
    return this.append({ kind: 'expand' }, [x], shape, x.dtype)
  }

  transpose(x: Tensor, perm: readonly number[]): Tensor {
    const shape = perm.map((axis) => dimOf(x, axis))
    return this.append({ kind: 'transpose', perm }, [x], shape, x.dtype)
  }

  /** Elements `start` to `end` of an axis; both count from its beginning. */
  slice(x: Tensor, axis: number, start: Dim, end: Dim): Tensor {
    if (start === 0 && end === x.shape[axis]) return x
    const size = subDims(end, start)
    const shape = x.shape.map((dim, index) => (index === axis ? size : dim))
    return this.append({ kind: 'slice', axis, start, end }, [x], shape, x.dtype)
  }

  concat(parts: readonly Tensor[], axis: number): Tensor {
    const first = parts[0]
    if (first === undefined) throw new GspoError('BAD_GRAPH', 'concat of nothing')
    if (parts.length === 1) return first
    const size = parts.map((part) => dimOf(part, axis)).reduce(addDims)
    const shape = first.shape.map((dim, index) => (index === axis ? size : dim))
    return this.append({ kind: 'concat', axis }, parts, shape, first.dtype)
  }

  gatherRows(x: Tensor, index: Tensor): Tensor {
    return this.append({ kind: 'gatherRows' }, [x, index], [dimOf(index, 0), ...x.shape.slice(1)], x.dtype)
  }

  /** Zeros of `rows` rows plus each row of x at its index; rows that meet are added. */
  scatterAddRows(x: Tensor, index: Tensor, rows: Dim): Tensor {
    return this.append({ kind: 'scatterAddRows' }, [x, index], [rows, ...x.shape.slice(1)], x.dtype)
  }

  pick(x: Tensor, index: Tensor): Tensor {
    return this.append({ kind: 'pick' }, [x, index], index.shape, x.dtype)
  }

  scatterPick(x: Tensor, index: Tensor, columns: Dim): Tensor {
    return this.append({ kind: 'scatterPick' }, [x, index], [dimOf(x, 0), columns], x.dtype)
  }

  topIndices(x: Tensor, k: number): Tensor {
    return this.append({ kind: 'topIndices', k }, [x], [...x.shape.slice(0, -1), k], 'i32')
  }

  /** Coordinates of the true elements [rank, n], or [n] of a vector's; n is a new symbol. */
  nonZero(x: Tensor): Tensor {
    const count = `n${this.unknownSizes++}`
    const rank = x.shape.length
    const places = this.append({ kind: 'nonZero' }, [x], [rank, count], 'i32')
    return rank === 1 ? this.reshape(places, [count]) : places
  }

  /** Rows of x [N, in] by one matrix after the other, counts [E] rows each: see `groupMatmul` in ops.ts. */
  groupMatmul(
    x: Tensor,
    counts: Tensor,
    matrices: readonly Tensor[],
    { transB = false, alpha = 1 }: { transB?: boolean; alpha?: number } = {},
  ): Tensor {
    const [first] = matrices
    const columns = first?.shape[transB ? 0 : 1]
    const fit = matrices.every(({ shape }) => first !== undefined && sameShape(shape, first.shape))
    if (
      first?.shape.length !== 2 ||
      columns === undefined ||
      !fit ||
      counts.shape[0] !== matrices.length ||
      x.shape.length !== 2 ||
      x.shape[1] !== first.shape[transB ? 1 : 0]
    )
      throw new GspoError(
        'BAD_GRAPH',
        `groupMatmul of ${describe(x)} in groups of ${describe(counts)} with ${matrices.length} matrices like ${first === undefined ? 'none' : describe(first)}`,
      )
    const inputs = [x, counts, ...matrices]
    return this.append({ kind: 'groupMatmul', transB, alpha }, inputs, [dimOf(x, 0), columns], 'f32')
  }

  /** a^T b of each group of rows: see `groupOuter` in ops.ts. */
  groupOuter(a: Tensor, b: Tensor, counts: Tensor, alpha = 1): Tensor {
    const shape = [mulDims(dimOf(counts, 0), dimOf(a, 1)), dimOf(b, 1)]
    return this.append({ kind: 'groupOuter', alpha }, [a, b, counts], shape, 'f32')
  }

  rmsNorm(x: Tensor, weight: Tensor, epsilon: number): Tensor {
    if (weight.shape.length !== 1 || weight.shape[0] !== x.shape.at(-1))
      throw new GspoError('BAD_GRAPH', `rmsNorm of ${describe(x)} with a weight of ${describe(weight)}`)
    return this.append({ kind: 'rmsNorm', epsilon }, [x, weight], x.shape, 'f32')
  }

  inverseRms(x: Tensor, epsilon: number): Tensor {
    return this.append({ kind: 'inverseRms', epsilon }, [x], [...x.shape.slice(0, -1), 1], 'f32')
  }

  rope(x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, heads: number): Tensor {
    return this.append({ kind: 'rope', heads }, [x, positions, cos, sin], x.shape, 'f32')
  }

  stopGradient(x: Tensor): Tensor {
    return this.append({ kind: 'stopGradient' }, [x], x.shape, x.dtype)
  }

  attachGradient(value: Tensor, x: Tensor, jacobian: Tensor): Tensor {
    return this.append({ kind: 'attachGradient' }, [value, x, jacobian], value.shape, 'f32')
  }

  private reduce(kind: 'sum' | 'maximum', x: Tensor, axes: readonly number[], keepDims: boolean): Tensor {
    if (axes.length === 0) return x
    const shape = keepDims
      ? x.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim))
      : x.shape.filter((_, axis) => !axes.includes(axis))
    return this.append({ kind, axes, keepDims }, [x], shape, x.dtype)
  }

  private append(op: Op, inputs: readonly Tensor[], shape: Shape, dtype: DType): Tensor {
    const key = `${JSON.stringify(op)}|${inputs.map(({ id }) => id).join()}|${shape.join()}|${dtype}`
    const existing = this.known.get(key)
    if (existing !== undefined) return existing
    const tensor: Tensor = { id: this.tensors.length, op, inputs, shape, dtype }
    this.tensors.push(tensor)
    this.known.set(key, tensor)
    return tensor
  }
}

/** Size of an axis; throws BAD_GRAPH when there is no such axis. */
export function dimOf(tensor: Tensor, axis: number): Dim {
  const dim = tensor.shape[axis]
  if (dim === undefined) throw new GspoError('BAD_GRAPH', `${describe(tensor)} has no axis ${axis}`)
  return dim
}

/** A tensor in words, for messages. */
export function describe(tensor: Tensor): string {
  return `${tensor.op.kind} ${tensor.dtype}[${tensor.shape.join(', ')}]`
}
