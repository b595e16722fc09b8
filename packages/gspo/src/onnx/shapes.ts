/** Sizes known only at run time, computed inside an ONNX model from the shapes of its inputs. */
import { GspoError } from '../errors.ts'
import { dimTerms, type Dim, type Shape } from '../graph/dims.ts'
import { ONNX_TYPE, type OnnxModel } from './model.ts'

/** Emits and caches the small integer tensors that reshape, expand and slice need. */
export class ShapeEmitter {
  private readonly model: OnnxModel
  private readonly sources = new Map<string, { tensor: string; axis: number }>()
  private readonly cache = new Map<string, string>()

  constructor(model: OnnxModel) {
    this.model = model
  }

  /** Says that the sizes of `shape` can be read off `tensor` from now on. */
  provide(tensor: string, shape: Shape): void {
    for (const [axis, dim] of shape.entries())
      if (typeof dim === 'string' && /^[A-Za-z]\w*$/.test(dim) && !this.sources.has(dim))
        this.sources.set(dim, { tensor, axis })
  }

  /** A one-dimensional int64 tensor with these sizes. */
  shape(shape: Shape): string {
    return this.remember(`[${shape.join()}]`, () => {
      const numbers = shape.filter((dim) => typeof dim === 'number')
      if (numbers.length === shape.length) return this.int64(numbers)
      if (shape.length === 1 && shape[0] !== undefined) return this.dim(shape[0])
      return this.model.node(
        'Concat',
        shape.map((dim) => this.dim(dim)),
        { axis: 0 },
      )
    })
  }

  /** The target of a Reshape: constant where `-1` (the rest) and `0` (as it was) suffice. */
  reshapeTarget(from: Shape, to: Shape): string {
    const simple = to.map((dim, axis) => (typeof dim === 'string' && dim === from[axis] ? 0 : dim))
    const unknown = simple.filter((dim) => typeof dim === 'string')
    // A zero may be a real size only when no size of the source is symbolic at that place.
    if (unknown.length <= 1) return this.int64(simple.map((dim) => (typeof dim === 'string' ? -1 : dim)))
    return this.shape(to)
  }

  /** One size as an int64 tensor of one element. */
  dim(dim: Dim): string {
    if (typeof dim === 'number') return this.int64([dim])
    return this.remember(dim, () => {
      const terms = dimTerms(dim).map(({ factor, symbols }) => {
        const factors = symbols.map((symbol) => this.symbol(symbol))
        if (factor !== 1 || factors.length === 0) factors.unshift(this.int64([factor]))
        return factors.reduce((a, b) => this.model.node('Mul', [a, b]))
      })
      return terms.reduce((a, b) => this.model.node('Add', [a, b]))
    })
  }

  /** Constant int64 vector. */
  int64(values: readonly number[]): string {
    const raw = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
    return this.model.constant(`i64_${values.join('_')}`, ONNX_TYPE.i64, [values.length], raw)
  }

  private symbol(symbol: string): string {
    return this.remember(symbol, () => {
      const source = this.sources.get(symbol)
      if (source === undefined) throw new GspoError('BAD_GRAPH', `no input tells the size ${symbol}`)
      return this.model.node('Shape', [source.tensor], { start: source.axis, end: source.axis + 1 })
    })
  }

  private remember(key: string, make: () => string): string {
    const known = this.cache.get(key)
    if (known !== undefined) return known
    const made = make()
    this.cache.set(key, made)
    return made
  }
}
