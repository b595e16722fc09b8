/** What every engine checks before a run: all inputs are fed, sizes agree, indices lie inside what they index. Pure. */
import { GspoError } from '../errors.ts'
import { evalDim, type Dim } from '../graph/dims.ts'
import type { Graph, InputSpec } from '../graph/graph.ts'
import type { OpKind, Tensor } from '../graph/ops.ts'
import type { Feed } from './engine.ts'

/** Values of a graph's symbols in one run; sizes that only a value tells are added while it runs. */
export class Sizes {
  private readonly bound = new Map<string, number>()
  private readonly known = new Map<string, number>()

  /** Says what a symbol is worth; throws ENGINE_FAILED when it is worth something else already. */
  bind(symbol: string, value: number, where: string): void {
    const old = this.bound.get(symbol)
    if (old !== undefined && old !== value)
      throw new GspoError('ENGINE_FAILED', `${where}: size ${symbol} is ${value}, elsewhere ${old}`)
    this.bound.set(symbol, value)
  }

  /** The value of a size; throws BAD_GRAPH for an unbound symbol. */
  of(dim: Dim): number {
    if (typeof dim === 'number') return dim
    const known = this.known.get(dim)
    if (known !== undefined) return known
    const value = evalDim(dim, this.bound)
    this.known.set(dim, value)
    return value
  }

  /** The values of a shape. */
  shape(shape: readonly Dim[]): number[] {
    return shape.map((dim) => this.of(dim))
  }
}

/** Checks what is fed against the graph's inputs and gives the sizes; throws ENGINE_FAILED. */
export function bindFeeds(inputs: readonly InputSpec[], feeds: Readonly<Record<string, Feed>>): Sizes {
  const sizes = new Sizes()
  for (const { name, shape } of inputs) {
    const { dims } = feedOf(feeds, name)
    if (dims.length !== shape.length) throw misshapen(name, dims, shape)
    // Indexed and without allocation, as below: decoding feeds a hundred inputs every few milliseconds.
    for (let axis = 0; axis < shape.length; axis++) {
      const dim = shape[axis]
      if (typeof dim === 'string' && isSymbol(dim)) sizes.bind(dim, dims[axis] ?? 0, `input ${name}`)
    }
  }
  for (const { name, shape, dtype } of inputs) {
    const { dims, values } = feedOf(feeds, name)
    let count = 1
    for (let axis = 0; axis < shape.length; axis++) {
      const size = dims[axis]
      if (sizes.of(shape[axis]) !== size) throw misshapen(name, dims, shape)
      count *= size
    }
    if (values.length !== count)
      throw new GspoError(
        'ENGINE_FAILED',
        `input ${name} has ${values.length} values for [${dims.join(', ')}]`,
      )
    if (values instanceof Int32Array !== (dtype === 'i32'))
      throw new GspoError('ENGINE_FAILED', `input ${name} must be ${dtype}, not ${values.constructor.name}`)
  }
  return sizes
}

/** An input whose values pick rows or columns out of `size`. */
export interface IndexBound {
  readonly input: string
  readonly size: Dim
}

/** How many rows or columns the second input of a primitive picks from. */
const INDEXED_SIZE: Partial<Record<OpKind, (tensor: Tensor) => Dim | undefined>> = {
  gatherRows: ({ inputs }) => inputs[0]?.shape[0],
  pick: ({ inputs }) => inputs[0]?.shape[1],
  scatterAddRows: ({ shape }) => shape[0],
  scatterPick: ({ shape }) => shape[1],
  rope: ({ inputs }) => inputs[2]?.shape[0],
}

/** Primitives that move elements about and change none. */
const MOVES: ReadonlySet<OpKind> = new Set(['reshape', 'slice', 'expand', 'transpose', 'concat'])

/** The inputs that a graph uses as indices, straight or after moving their elements about. */
export function indexBounds(graph: Graph): IndexBound[] {
  const bounds = new Map<string, IndexBound>()
  for (const tensor of graph.tensors) {
    const size = INDEXED_SIZE[tensor.op.kind]?.(tensor)
    if (size === undefined) continue
    for (const input of sourcesOf(tensor.inputs[1])) bounds.set(`${input} ${size}`, { input, size })
  }
  return [...bounds.values()]
}

/** Throws ENGINE_FAILED when an index is outside: some engines would read zeros, others their neighbour's memory. */
export function checkIndices(
  bounds: readonly IndexBound[],
  feeds: Readonly<Record<string, Feed>>,
  sizes: Sizes,
): void {
  for (const { input, size } of bounds) {
    const { values } = feedOf(feeds, input)
    const limit = sizes.of(size)
    // Indexed, without allocation: it runs over every token of every step.
    for (let i = 0; i < values.length; i++)
      if (values[i] < 0 || values[i] >= limit)
        throw new GspoError(
          'ENGINE_FAILED',
          `element ${i} of input ${input} is ${values[i]}, it must be an index below ${limit}`,
        )
  }
}

/** Inputs whose elements, unchanged, make up a tensor. */
function sourcesOf(tensor: Tensor | undefined): string[] {
  if (tensor?.op.kind === 'input') return [tensor.op.name]
  return tensor !== undefined && MOVES.has(tensor.op.kind) ? tensor.inputs.flatMap(sourcesOf) : []
}

/** Symbols among the sizes that graphs of this process have; there are a few dozen. */
const symbols = new Map<string, boolean>()

/** Whether a size is one symbol, not an expression of several. */
function isSymbol(dim: string): boolean {
  const known = symbols.get(dim) ?? /^[A-Za-z]\w*$/.test(dim)
  symbols.set(dim, known)
  return known
}

function feedOf(feeds: Readonly<Record<string, Feed>>, name: string): Feed {
  const feed = feeds[name]
  if (feed === undefined) throw new GspoError('ENGINE_FAILED', `input ${name} was not fed`)
  return feed
}

function misshapen(name: string, dims: readonly number[], shape: readonly Dim[]): GspoError {
  return new GspoError(
    'ENGINE_FAILED',
    `input ${name} is [${dims.join(', ')}], the graph expects [${shape.join(', ')}]`,
  )
}
