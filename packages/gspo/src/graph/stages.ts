/**
 * Cuts a graph into stages that run one after the other, each a graph of its own: ONNX Runtime opens a graph in a time
 * that grows with the square of its nodes. Pure; what a stage computes for later ones is carried as outputs and inputs.
 */
import { GspoError } from '../errors.ts'
import { dimTerms } from './dims.ts'
import type { Graph, InputSpec } from './graph.ts'
import type { Op, Tensor } from './ops.ts'
import { frozenSource } from './weight-rows.ts'

/** Products with a group's matrix that an operation consists of. */
export function groupsOf({ op, inputs }: Tensor): number {
  if (op.kind === 'groupMatmul') return inputs.length - 2
  return op.kind === 'groupOuter' ? Number(inputs[2]?.shape[0]) : 0
}

/** Nodes that a runtime makes of an operation, about: a product a group, and what cuts and joins the groups. */
export function nodesOf(tensor: Tensor): number {
  const groups = groupsOf(tensor)
  return groups === 0 ? 1 : groups + 2
}

/** Name of a value that goes from the stage that computes it to later ones. */
export function carriedName({ id }: Tensor): string {
  return `carried_${id}`
}

/**
 * Stages of at most `most` nodes, or of one operation that has more; their outputs together hold the graph's. A stage
 * takes inputs of the graph by their names, and what earlier stages carry by `carriedName`.
 */
export function splitStages(graph: Graph, most: number): Graph[] {
  const stageOf = assign(graph, most)
  const count = Math.max(0, ...stageOf.values()) + 1
  const parts = Array.from({ length: count }, () => new StageBuilder(graph, stageOf))
  for (const tensor of graph.tensors) {
    const stage = stageOf.get(tensor)
    if (stage !== undefined) parts[stage]?.add(tensor)
  }
  for (const { name, tensor } of graph.outputs) parts[stageOf.get(tensor) ?? count - 1]?.give(name, tensor)
  for (const part of parts) {
    part.bindSymbols()
    for (const tensor of part.carried()) parts[stageOf.get(tensor) ?? 0]?.give(carriedName(tensor), tensor)
  }
  return parts.map((part) => part.finish())
}

/** The stage of every operation but those that any stage can have anew at no cost. */
function assign(graph: Graph, most: number): Map<Tensor, number> {
  const stageOf = new Map<Tensor, number>()
  let stage = 0
  let nodes = 0
  for (const tensor of graph.tensors) {
    if (isLight(tensor)) continue
    const own = nodesOf(tensor)
    if (nodes > 0 && nodes + own > most) {
      stage++
      nodes = 0
    }
    nodes += own
    stageOf.set(tensor, stage)
  }
  return stageOf
}

/** Sources, and what is no number or all one number: made anew wherever it is used. */
function isLight(tensor: Tensor): boolean {
  const { op, dtype, inputs } = tensor
  if (op.kind === 'input' || op.kind === 'constant' || frozenSource(tensor) !== undefined) return true
  return dtype === 'bool' || (op.kind === 'expand' && inputs[0]?.op.kind === 'constant')
}

class StageBuilder {
  private readonly graph: Graph
  private readonly stageOf: ReadonlyMap<Tensor, number>
  private readonly tensors: Tensor[] = []
  private readonly own = new Map<Tensor, Tensor>()
  private readonly from = new Set<Tensor>()
  private readonly inputs = new Map<string, InputSpec>()
  private readonly outputs = new Map<string, Tensor>()

  constructor(graph: Graph, stageOf: ReadonlyMap<Tensor, number>) {
    this.graph = graph
    this.stageOf = stageOf
  }

  /** Appends an operation of this stage. */
  add(tensor: Tensor): Tensor {
    const { op } = tensor
    if (op.kind === 'input') return this.input(tensor, op.name)
    return this.append(
      tensor,
      op,
      tensor.inputs.map((input) => this.take(input)),
    )
  }

  /** Makes a tensor of the whole graph an output of this stage. */
  give(name: string, tensor: Tensor): void {
    this.outputs.set(name, this.take(tensor))
  }

  /** Values that this stage takes from earlier ones. */
  carried(): ReadonlySet<Tensor> {
    return this.from
  }

  /** Takes something to read off every size that the stage's shapes name. */
  bindSymbols(): void {
    const known = new Set<string>()
    const provide = ({ shape }: { readonly shape: Tensor['shape'] }): void => {
      for (const dim of shape) if (typeof dim === 'string' && isSymbol(dim)) known.add(dim)
    }
    this.inputs.forEach(provide)
    for (const tensor of this.tensors) if (tensor.op.kind === 'nonZero') provide(tensor)
    // What is taken on the way may name further sizes: the list grows while it is gone through.
    for (let at = 0; at < this.tensors.length; at++)
      for (const symbol of symbolsOf(this.tensors[at])) {
        if (known.has(symbol)) continue
        const source = this.graph.tensors.find(
          ({ op, shape }) => (op.kind === 'input' || op.kind === 'nonZero') && shape.includes(symbol),
        )
        if (source === undefined) throw new GspoError('BAD_GRAPH', `no input tells the size ${symbol}`)
        provide(this.take(source))
      }
  }

  finish(): Graph {
    return {
      // Inputs first: sizes that were bound last are asked for from the beginning.
      tensors: [...this.tensors].sort(
        (a, b) => Number(b.op.kind === 'input') - Number(a.op.kind === 'input'),
      ),
      inputs: [...this.inputs.values()],
      outputs: [...this.outputs].map(([name, tensor]) => ({ name, tensor })),
    }
  }

  private take(tensor: Tensor): Tensor {
    const known = this.own.get(tensor)
    if (known !== undefined) return known
    if (!this.stageOf.has(tensor)) return this.add(tensor)
    this.from.add(tensor)
    return this.input(tensor, carriedName(tensor))
  }

  private input(tensor: Tensor, name: string): Tensor {
    this.inputs.set(name, { name, shape: tensor.shape, dtype: tensor.dtype })
    return this.append(tensor, { kind: 'input', name }, [])
  }

  private append(tensor: Tensor, op: Op, inputs: readonly Tensor[]): Tensor {
    const made: Tensor = { ...tensor, id: this.tensors.length, op, inputs }
    this.tensors.push(made)
    this.own.set(tensor, made)
    return made
  }
}

function symbolsOf(tensor: Tensor | undefined): string[] {
  if (tensor === undefined) return []
  const { op, shape } = tensor
  const dims = op.kind === 'slice' ? [...shape, op.start, op.end] : shape
  return dims.flatMap((dim) =>
    typeof dim === 'number' ? [] : dimTerms(dim).flatMap(({ symbols }) => symbols),
  )
}

function isSymbol(dim: string): boolean {
  return /^[A-Za-z]\w*$/.test(dim)
}
