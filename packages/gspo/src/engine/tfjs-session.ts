/** A graph interpreted with TensorFlow.js: primitive by primitive, every value freed after its last use. */
import { GspoError } from '../errors.ts'
import type { Graph } from '../graph/graph.ts'
import type { DType, Tensor } from '../graph/ops.ts'
import type { Tf } from '../tfjs/library.ts'
import { compute, TF_TYPE, type ComputedOp, type Value } from '../tfjs/primitives.ts'
import type { WeightStore } from '../tfjs/weights.ts'
import type { Feed, Session } from './engine.ts'
import { bindFeeds, checkIndices, indexBounds, type IndexBound, type Sizes } from './feeds.ts'

/** Reads the graph's weights, which stay the store's, makes its constants, and gives its session. */
export async function compileTfjs(tf: Tf, graph: Graph, weights: WeightStore): Promise<Session> {
  const frozen = new Map<Tensor, Value>()
  for (const tensor of graph.tensors)
    if (tensor.op.kind === 'weight') frozen.set(tensor, await weights.get(tensor.op.source))
  // Made once: on a GPU each is a copy from the processor's memory.
  const constants: Value[] = []
  for (const tensor of graph.tensors) {
    if (tensor.op.kind !== 'constant') continue
    const value = makeConstant(tf, tensor, tensor.op.values)
    constants.push(value)
    frozen.set(tensor, value)
  }
  return new TfjsSession(tf, graph, frozen, constants)
}

class TfjsSession implements Session {
  private readonly tf: Tf
  private readonly graph: Graph
  /** Weights and constants. */
  private readonly frozen: ReadonlyMap<Tensor, Value>
  private readonly constants: readonly Value[]
  private readonly bounds: readonly IndexBound[]
  /** For each tensor those that nobody needs once it is computed. */
  private readonly spent: ReadonlyMap<Tensor, readonly Tensor[]>
  private isClosed = false

  constructor(tf: Tf, graph: Graph, frozen: ReadonlyMap<Tensor, Value>, constants: readonly Value[]) {
    this.tf = tf
    this.graph = graph
    this.frozen = frozen
    this.constants = constants
    this.bounds = indexBounds(graph)
    this.spent = lastUses(graph)
  }

  async run(
    feeds: Readonly<Record<string, Feed>>,
    into: Readonly<Record<string, Feed>> = {},
  ): Promise<Record<string, Feed>> {
    if (this.isClosed) throw new GspoError('CLOSED', 'the session is closed')
    const sizes = bindFeeds(this.graph.inputs, feeds)
    checkIndices(this.bounds, feeds, sizes)
    const live = new Map<Tensor, Value>()
    try {
      this.evaluate(feeds, sizes, live)
      const results: Record<string, Feed> = {}
      for (const { name, tensor } of this.graph.outputs)
        results[name] = await readOut(name, this.valueOf(tensor, live), into[name])
      return results
    } catch (cause) {
      if (cause instanceof GspoError) throw cause
      const message = cause instanceof Error ? cause.message : String(cause)
      throw new GspoError('ENGINE_FAILED', `TensorFlow.js failed: ${message}`, { cause })
    } finally {
      for (const value of live.values()) value.dispose()
    }
  }

  close(): Promise<void> {
    if (!this.isClosed) for (const value of this.constants) value.dispose()
    this.isClosed = true
    return Promise.resolve()
  }

  private evaluate(feeds: Readonly<Record<string, Feed>>, sizes: Sizes, live: Map<Tensor, Value>): void {
    for (const tensor of this.graph.tensors) {
      const { op } = tensor
      if (op.kind === 'weight' || op.kind === 'constant') continue
      const value = this.tf.tidy(() => {
        if (op.kind === 'input') return this.upload(feeds[op.name], tensor.dtype)
        return this.apply(tensor, op, sizes, live)
      })
      live.set(tensor, value)
      if (op.kind === 'nonZero' && typeof tensor.shape[1] === 'string')
        sizes.bind(tensor.shape[1], value.shape[1] ?? 0, 'nonZero')
      for (const done of this.spent.get(tensor) ?? []) {
        live.get(done)?.dispose()
        live.delete(done)
      }
    }
  }

  private apply(tensor: Tensor, op: ComputedOp, sizes: Sizes, live: ReadonlyMap<Tensor, Value>): Value {
    return compute(this.tf, tensor, op, {
      inputs: tensor.inputs.map((input) => this.valueOf(input, live)),
      // The size of what nonZero finds is known only afterwards.
      dims: op.kind === 'nonZero' ? [] : sizes.shape(tensor.shape),
      ...(op.kind === 'slice' ? { range: [sizes.of(op.start), sizes.of(op.end)] as const } : {}),
    })
  }

  private upload(feed: Feed | undefined, dtype: DType): Value {
    return this.tf.tensor(feed?.values ?? [], [...(feed?.dims ?? [])], TF_TYPE[dtype])
  }

  private valueOf(tensor: Tensor, live: ReadonlyMap<Tensor, Value>): Value {
    const value = this.frozen.get(tensor) ?? live.get(tensor)
    if (value === undefined) throw new GspoError('BAD_GRAPH', `tensor ${tensor.id} is not in order`)
    return value
  }
}

function makeConstant(tf: Tf, { shape, dtype }: Tensor, values: readonly number[]): Value {
  const dims = shape.filter((dim) => typeof dim === 'number')
  switch (dtype) {
    case 'f32':
      return tf.tensor(Float32Array.from(values), dims, TF_TYPE.f32)
    case 'i32':
      return tf.tensor(Int32Array.from(values), dims, TF_TYPE.i32)
    case 'bool':
      return tf.tensor(Uint8Array.from(values), dims, TF_TYPE.bool)
  }
}

/** Copies a result out: what the library hands over may be memory that it goes on using. */
async function readOut(name: string, value: Value, target: Feed | undefined): Promise<Feed> {
  const values = await value.data()
  if (target === undefined)
    return {
      dims: [...value.shape],
      values: values instanceof Int32Array ? values.slice() : Float32Array.from(values),
    }
  if (target.dims.join() !== value.shape.join() || target.values.length !== values.length)
    throw new GspoError(
      'ENGINE_FAILED',
      `output ${name} is [${value.shape.join(', ')}], the memory for it [${target.dims.join(', ')}]`,
    )
  target.values.set(values)
  return target
}

/** For each tensor, those whose last use it is. Outputs, weights and constants outlive them. */
function lastUses(graph: Graph): Map<Tensor, Tensor[]> {
  const last = new Map<Tensor, Tensor>()
  for (const tensor of graph.tensors) {
    last.set(tensor, tensor)
    for (const input of tensor.inputs) last.set(input, tensor)
  }
  for (const { tensor } of graph.outputs) last.delete(tensor)
  const spent = new Map<Tensor, Tensor[]>()
  for (const [tensor, user] of last)
    if (tensor.op.kind !== 'weight' && tensor.op.kind !== 'constant')
      spent.set(user, [...(spent.get(user) ?? []), tensor])
  return spent
}
