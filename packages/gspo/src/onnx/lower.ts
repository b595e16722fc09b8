/** Lowers a graph to an ONNX model: one primitive becomes one to four nodes; nothing is computed here. */
import { GspoError } from '../errors.ts'
import { sameShape, type Shape } from '../graph/dims.ts'
import { describe, dimOf, type Graph } from '../graph/graph.ts'
import type { DType, Tensor } from '../graph/ops.ts'
import { frozenSource } from '../graph/weight-rows.ts'
import { GroupEmitter } from './groups.ts'
import { ONNX_TYPE, OnnxModel } from './model.ts'
import { scatterAddRows } from './scatter.ts'
import { ShapeEmitter } from './shapes.ts'
import { WeightEmitter, type LoweringTarget } from './weights.ts'

/** Outputs of one Split on WebGPU: a shader binds eight storage buffers at least, one is the input. */
const WEBGPU_SPLIT_OUTPUTS = 7

const SIMPLE_NODE = {
  add: 'Add',
  sub: 'Sub',
  mul: 'Mul',
  div: 'Div',
  min: 'Min',
  max: 'Max',
  less: 'Less',
  equal: 'Equal',
  where: 'Where',
  neg: 'Neg',
  exp: 'Exp',
  log: 'Log',
  sqrt: 'Sqrt',
  sigmoid: 'Sigmoid',
  softplus: 'Softplus',
} as const

/**
 * The ONNX model of a graph. Frozen weights are references into their files, relative to `weightFolder`.
 * Inputs and outputs keep their names and types.
 */
export function lowerToOnnx(graph: Graph, weightFolder: string, target: LoweringTarget): Uint8Array {
  return new Lowering(graph, weightFolder, target).run()
}

class Lowering {
  private readonly graph: Graph
  private readonly weights: WeightEmitter
  private readonly groups: GroupEmitter
  private readonly target: LoweringTarget
  private readonly model = new OnnxModel()
  private readonly shapes = new ShapeEmitter(this.model)
  private readonly names = new Map<Tensor, string>()
  private readonly splits: Map<Tensor, Tensor[]>
  private readonly normalised: Map<string, Tensor>
  /** Products that are written together with the sum they go into: by sum. */
  private readonly fused: Map<Tensor, { product: Tensor; addend: Tensor }>

  constructor(graph: Graph, weightFolder: string, target: LoweringTarget) {
    this.graph = graph
    this.target = target
    this.weights = new WeightEmitter(this.model, this.shapes, weightFolder, target)
    this.groups = new GroupEmitter(this.model, this.shapes, target)
    this.splits = findSplits(graph)
    this.fused = findSums(graph)
    this.normalised = new Map(
      graph.tensors.flatMap((tensor) =>
        tensor.op.kind === 'rmsNorm' ? [[normKey(tensor, tensor.op.epsilon), tensor]] : [],
      ),
    )
  }

  run(): Uint8Array {
    for (const { name, shape, dtype } of this.graph.inputs) {
      this.model.input(name, ONNX_TYPE[dtype], shape)
      this.shapes.provide(name, shape)
    }
    const later = new Set([...this.fused.values()].map(({ product }) => product))
    for (const tensor of this.graph.tensors)
      // Weights are emitted where they are used: how depends on the use.
      if (!this.names.has(tensor) && !later.has(tensor) && frozenSource(tensor) === undefined)
        this.names.set(tensor, this.lower(tensor))
    for (const { name, tensor } of this.graph.outputs) {
      const made = this.nameOf(tensor)
      // A copy on a GPU: an output that is a view of something else's memory has not been tried there.
      const source = this.target.provider === 'webgpu' ? this.model.node('Identity', [made]) : made
      this.model.output(name, ONNX_TYPE[tensor.dtype], source)
    }
    return this.model.encode()
  }

  private nameOf(tensor: Tensor | undefined): string {
    const source = tensor === undefined ? undefined : frozenSource(tensor)
    if (source !== undefined) return this.weights.floats(source)
    const name = tensor === undefined ? undefined : this.names.get(tensor)
    if (name === undefined)
      throw new GspoError(
        'BAD_GRAPH',
        `${tensor === undefined ? 'an input' : describe(tensor)} is not in order`,
      )
    return name
  }

  private lower(tensor: Tensor): string {
    const special = this.lowerWeightUse(tensor)
    if (special !== undefined) return special
    const sum = this.fused.get(tensor)
    if (sum !== undefined) return this.accumulate(sum)
    const { op, inputs, shape } = tensor
    const names = inputs.map((input) => this.nameOf(input))
    const [first, second] = names
    const a = inputs[0]
    switch (op.kind) {
      case 'input':
        return op.name
      case 'weight':
        return this.weights.floats(op.source)
      case 'constant':
        return this.constant(tensor, op.values)
      case 'add':
      case 'sub':
      case 'mul':
      case 'div':
      case 'min':
      case 'max':
      case 'less':
      case 'equal':
      case 'where':
      case 'neg':
      case 'exp':
      case 'log':
      case 'sqrt':
      case 'sigmoid':
      case 'softplus':
        return this.model.node(SIMPLE_NODE[op.kind], names)
      case 'cast':
        return this.model.node('Cast', names, { to: ONNX_TYPE[tensor.dtype] })
      case 'matmul':
        return this.matmul(names, shape.length, op)
      case 'softmax':
        return this.model.node('Softmax', names, { axis: -1 })
      case 'sum':
      case 'maximum':
        return this.model.node(
          op.kind === 'sum' ? 'ReduceSum' : 'ReduceMax',
          [...names, this.shapes.int64(op.axes)],
          { keepdims: op.keepDims ? 1 : 0 },
        )
      case 'reshape':
        return this.model.node('Reshape', [...names, this.shapes.reshapeTarget(a?.shape ?? [], shape)])
      case 'expand':
        return this.model.node('Expand', [...names, this.shapes.shape(shape)])
      case 'transpose':
        return this.model.node('Transpose', names, { perm: op.perm })
      case 'slice':
        return this.slice(tensor, names)
      case 'concat':
        return this.model.node('Concat', names, { axis: op.axis })
      case 'gatherRows':
        return this.model.node('Gather', names, { axis: 0 })
      case 'scatterAddRows':
        return scatterAddRows(this.model, this.shapes, this.target, {
          zeros: this.zeros(shape),
          x: first ?? '',
          index: second ?? '',
          shape: a?.shape ?? [],
        })
      case 'pick':
        return this.model.node('GatherElements', names, { axis: 1 })
      case 'scatterPick':
        return this.model.node('ScatterElements', [this.zeros(shape), second ?? '', first ?? ''], {
          axis: 1,
          reduction: 'add',
        })
      case 'topIndices': {
        const values = `top_values_${tensor.id}`
        const indices = `top_indices_${tensor.id}`
        this.model.node('TopK', [...names, this.shapes.int64([op.k])], {}, { outputs: [values, indices] })
        return this.model.node('Cast', [indices], { to: ONNX_TYPE.i32 })
      }
      case 'groupMatmul':
        throw new GspoError('BAD_GRAPH', `${describe(tensor)} is a use of weights`)
      case 'groupOuter': {
        const groups = Number(dimOf(inputs[2] ?? tensor, 0))
        return this.groups.outer(names, groups, (a, b) =>
          this.matmul([a, b], 2, { transA: true, transB: false, alpha: op.alpha }),
        )
      }
      case 'nonZero': {
        const name = this.model.node('Cast', [this.model.node('NonZero', names)], { to: ONNX_TYPE.i32 })
        this.shapes.provide(name, shape)
        return name
      }
      case 'rmsNorm': {
        const outputs = [`norm_${tensor.id}`, `inverse_rms_${tensor.id}`]
        const attributes = { axis: -1, epsilon: { float: op.epsilon }, stash_type: 1 }
        return this.model.node('SimplifiedLayerNormalization', names, attributes, { outputs })
      }
      case 'inverseRms':
        return this.inverseRms(tensor, op.epsilon, first ?? '')
      case 'rope': {
        const half = dimOf(inputs[2] ?? tensor, 1)
        const heads = { num_heads: op.heads }
        const size = dimOf(tensor, 2)
        const isPartial = typeof half === 'number' && size !== 2 * half * op.heads
        const attributes = isPartial ? { ...heads, rotary_embedding_dim: 2 * half } : heads
        const [x, positions, ...tables] = names
        return this.model.node('RotaryEmbedding', [x ?? '', this.int64(positions), ...tables], attributes, {
          domain: 'com.microsoft',
        })
      }
      case 'stopGradient':
      case 'attachGradient':
        return first ?? ''
    }
  }

  /** A product added to something: one node that accumulates. */
  private accumulate({ product, addend }: { product: Tensor; addend: Tensor }): string {
    const { op, inputs } = product
    if (op.kind !== 'matmul') throw new GspoError('BAD_GRAPH', `${describe(product)} is no product`)
    const names = [...inputs, addend].map((input) => this.nameOf(input))
    const attributes = { transA: op.transA ? 1 : 0, transB: op.transB ? 1 : 0, alpha: { float: op.alpha } }
    return this.model.node('Gemm', names, attributes)
  }

  /** Uses of a frozen tensor that need not make floats of all of it: rows of a table, a product with codes. */
  private lowerWeightUse({ op, inputs }: Tensor): string | undefined {
    const [first, second] = inputs
    const [table, matrix] = [first, second].map((input) =>
      input === undefined ? undefined : frozenSource(input),
    )
    if (op.kind === 'gatherRows' && table !== undefined) return this.weights.rows(table, this.nameOf(second))
    if (op.kind === 'matmul' && op.transB && !op.transA && op.alpha === 1 && matrix !== undefined)
      return this.weights.product(this.nameOf(first), matrix)
    if (op.kind === 'groupMatmul') {
      const matrices = inputs.slice(2)
      return this.groups.products(this.nameOf(first), this.nameOf(second), matrices.length, (rows, group) => {
        const source = matrices[group] === undefined ? undefined : frozenSource(matrices[group])
        const isPlain = op.transB && op.alpha === 1
        const packed = source !== undefined && isPlain ? this.weights.product(rows, source) : undefined
        return packed ?? this.matmul([rows, this.nameOf(matrices[group])], 2, { ...op, transA: false })
      })
    }
    return undefined
  }

  private constant(tensor: Tensor, values: readonly number[]): string {
    const dims = tensor.shape.filter((dim) => typeof dim === 'number')
    const raw = encodeConstant(values, tensor.dtype)
    return this.model.constant(`c${tensor.id}`, ONNX_TYPE[tensor.dtype], dims, raw)
  }

  private matmul(
    names: readonly string[],
    rank: number,
    op: { transA: boolean; transB: boolean; alpha: number },
  ): string {
    const transA = op.transA ? 1 : 0
    const transB = op.transB ? 1 : 0
    const alpha = { float: op.alpha }
    if (rank === 2) return this.model.node('Gemm', names, { transA, transB, alpha })
    if (this.target.provider === 'webgpu') return this.plainProduct(names, rank, op)
    if (transA + transB === 0 && op.alpha === 1) return this.model.node('MatMul', names)
    return this.model.node('FusedMatMul', names, { transA, transB, alpha }, { domain: 'com.microsoft' })
  }

  /** A product of batches from operations that WebGPU has kernels for. */
  private plainProduct(
    names: readonly string[],
    rank: number,
    op: { transA: boolean; transB: boolean; alpha: number },
  ): string {
    const perm = Array.from({ length: rank }, (_, axis) => axis)
    perm.splice(rank - 2, 2, rank - 1, rank - 2)
    const operand = (name: string | undefined, isTransposed: boolean): string =>
      isTransposed ? this.model.node('Transpose', [name ?? ''], { perm }) : (name ?? '')
    const product = this.model.node('MatMul', [operand(names[0], op.transA), operand(names[1], op.transB)])
    return op.alpha === 1 ? product : this.model.node('Mul', [product, this.scalar(op.alpha)])
  }

  /** Slices that tile an axis of one tensor become one Split; any other is a Slice. */
  private slice(tensor: Tensor, names: readonly string[]): string {
    if (tensor.op.kind !== 'slice') throw new GspoError('BAD_GRAPH', `${describe(tensor)} is no slice`)
    const { axis, start, end } = tensor.op
    const parts = tensor.inputs[0] === undefined ? undefined : this.splits.get(tensor.inputs[0])
    const isTooWide = this.target.provider === 'webgpu' && (parts?.length ?? 0) > WEBGPU_SPLIT_OUTPUTS
    if (parts?.includes(tensor) !== true || isTooWide)
      return this.model.node('Slice', [
        ...names,
        this.shapes.dim(start),
        this.shapes.dim(end),
        this.shapes.int64([axis]),
      ])
    const outputs = parts.map((part) => `part_${part.id}`)
    const sizes = this.shapes.shape(parts.map((part) => dimOf(part, axis)))
    this.model.node('Split', [...names, sizes], { axis }, { outputs })
    for (const [index, part] of parts.entries()) this.names.set(part, outputs[index] ?? '')
    return `part_${tensor.id}`
  }

  /** The second output of a normalisation of the same tensor, or its formula. */
  private inverseRms(tensor: Tensor, epsilon: number, x: string): string {
    const norm = this.normalised.get(normKey(tensor, epsilon))
    // WebGPU's fused norm gives a wrong second output without an error.
    if (norm !== undefined && this.names.has(norm) && this.target.provider === 'cpu')
      return `inverse_rms_${norm.id}`
    const squares = this.model.node('Mul', [x, x])
    const mean = this.model.node('ReduceMean', [squares, this.shapes.int64([-1])], { keepdims: 1 })
    const shifted = this.model.node('Add', [mean, this.scalar(epsilon)])
    return this.model.node('Reciprocal', [this.model.node('Sqrt', [shifted])])
  }

  private zeros(shape: Shape): string {
    return this.model.node('Expand', [this.scalar(0), this.shapes.shape(shape)])
  }

  private scalar(value: number): string {
    const raw = new Uint8Array(Float32Array.of(value).buffer)
    return this.model.constant(`f32_${value}`, ONNX_TYPE.f32, [], raw)
  }

  private int64(name: string | undefined): string {
    return this.model.node('Cast', [name ?? ''], { to: ONNX_TYPE.i64 })
  }
}

function normKey(tensor: Tensor, epsilon: number): string {
  return `${tensor.inputs[0]?.id} ${epsilon}`
}

function encodeConstant(values: readonly number[], dtype: DType): Uint8Array {
  switch (dtype) {
    case 'f32':
      return new Uint8Array(Float32Array.from(values).buffer)
    case 'i32':
      return new Uint8Array(Int32Array.from(values).buffer)
    case 'bool':
      return Uint8Array.from(values)
  }
}

/**
 * Sums in which one side is a product of matrices that nothing else uses and no frozen weight takes part in: LoRA's
 * second product, on top of the layer's, and its share of a gradient.
 */
function findSums(graph: Graph): Map<Tensor, { product: Tensor; addend: Tensor }> {
  const users = new Map<Tensor, number>()
  for (const tensor of [
    ...graph.tensors.flatMap(({ inputs }) => inputs),
    ...graph.outputs.map((o) => o.tensor),
  ])
    users.set(tensor, (users.get(tensor) ?? 0) + 1)
  const fits = (product: Tensor, addend: Tensor): boolean =>
    product.op.kind === 'matmul' &&
    product.shape.length === 2 &&
    users.get(product) === 1 &&
    product.inputs.every((input) => frozenSource(input) === undefined) &&
    sameShape(product.shape, addend.shape)
  const sums = new Map<Tensor, { product: Tensor; addend: Tensor }>()
  for (const tensor of graph.tensors) {
    const [a, b] = tensor.inputs
    if (tensor.op.kind !== 'add' || a === undefined || b === undefined || a === b) continue
    if (fits(b, a)) sums.set(tensor, { product: b, addend: a })
    else if (fits(a, b)) sums.set(tensor, { product: a, addend: b })
  }
  return sums
}

/** Tensors whose slices, sorted, cover an axis without gap or overlap. */
function findSplits(graph: Graph): Map<Tensor, Tensor[]> {
  const bySource = new Map<Tensor, Tensor[]>()
  for (const tensor of graph.tensors) {
    const source = tensor.inputs[0]
    if (tensor.op.kind === 'slice' && source !== undefined)
      bySource.set(source, [...(bySource.get(source) ?? []), tensor])
  }
  const splits = new Map<Tensor, Tensor[]>()
  for (const [source, slices] of bySource) {
    const ordered = tile(source, slices)
    if (ordered !== undefined && ordered.length > 1) splits.set(source, ordered)
  }
  return splits
}

function tile(source: Tensor, slices: readonly Tensor[]): Tensor[] | undefined {
  const byStart = new Map(
    slices.map((slice) => [slice.op.kind === 'slice' ? slice.op.start : undefined, slice] as const),
  )
  const axes = new Set(slices.map((slice) => (slice.op.kind === 'slice' ? slice.op.axis : -1)))
  if (axes.size !== 1 || byStart.size !== slices.length) return undefined
  const ordered: Tensor[] = []
  let at: Shape[number] = 0
  for (let next = byStart.get(at); next !== undefined; next = byStart.get(at)) {
    if (next.op.kind !== 'slice') return undefined
    ordered.push(next)
    at = next.op.end
    byStart.delete(next.op.start)
  }
  const [axis] = axes
  const covers = axis !== undefined && byStart.size === 0 && sameShape([at], [dimOf(source, axis)])
  return covers ? ordered : undefined
}
