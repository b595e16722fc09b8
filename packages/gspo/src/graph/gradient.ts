/** Reverse-mode differentiation of a graph: pure, it only appends operations to the same builder. */
import { GspoError } from '../errors.ts'
import { addDims, subDims, type Dim, type Shape } from './dims.ts'
import { describe, dimOf, type GraphBuilder } from './graph.ts'
import type { Tensor } from './ops.ts'

/**
 * Gradients of a scalar with respect to some tensors, in their order.
 * A tensor that the scalar does not depend on gets zeros. Only the paths that lead to `wanted` are built.
 */
export function gradients(builder: GraphBuilder, scalar: Tensor, wanted: readonly Tensor[]): Tensor[] {
  if (scalar.shape.length !== 0)
    throw new GspoError('BAD_GRAPH', `can differentiate a scalar only, not ${describe(scalar)}`)
  const order = topologicalOrder(scalar)
  const depends = new Set<Tensor>(wanted)
  for (const tensor of order)
    if (tensor.op.kind !== 'stopGradient' && tensor.inputs.some((input) => depends.has(input)))
      depends.add(tensor)

  const flowing = new Map<Tensor, Tensor>([[scalar, builder.constant(1)]])
  const sliced = new Map<Tensor, SlicePart[]>()
  const accumulate = (input: Tensor, part: Tensor): void => {
    const sum = flowing.get(input)
    flowing.set(input, sum === undefined ? part : builder.add(sum, part))
  }
  for (const tensor of order.toReversed()) {
    if (!depends.has(tensor)) continue
    for (const part of joinSlices(builder, tensor, sliced.get(tensor) ?? [])) accumulate(tensor, part)
    const gradient = flowing.get(tensor)
    if (gradient === undefined) continue
    const [first] = tensor.inputs
    if (tensor.op.kind === 'slice' && first !== undefined) {
      const { axis, start, end } = tensor.op
      sliced.set(first, [...(sliced.get(first) ?? []), { axis, start, end, gradient }])
      continue
    }
    const parts = backward(builder, tensor, gradient, (input) => depends.has(input))
    for (const [index, part] of parts.entries()) {
      const input = tensor.inputs[index]
      if (part !== undefined && input !== undefined && depends.has(input)) accumulate(input, part)
    }
  }
  return wanted.map((tensor) => flowing.get(tensor) ?? builder.expand(builder.constant(0), tensor.shape))
}

interface SlicePart {
  readonly axis: number
  readonly start: Dim
  readonly end: Dim
  readonly gradient: Tensor
}

/** Gradients of a tensor from those of its slices: joined where they lie side by side, padded with zeros elsewhere. */
function joinSlices(g: GraphBuilder, whole: Tensor, parts: readonly SlicePart[]): Tensor[] {
  return [...new Set(parts.map(({ axis }) => axis))].flatMap((axis) => {
    const rest = parts.filter((part) => part.axis === axis)
    const joined: Tensor[] = []
    while (rest.length > 0) joined.push(nextRow(g, whole, axis, rest))
    return joined
  })
}

/** Takes from `rest` a row of slices that do not overlap, and fills the gaps between them. */
function nextRow(g: GraphBuilder, whole: Tensor, axis: number, rest: SlicePart[]): Tensor {
  const size = dimOf(whole, axis)
  const zeros = (from: Dim, to: Dim): Tensor =>
    g.expand(
      g.constant(0),
      whole.shape.map((dim, index) => (index === axis ? subDims(to, from) : dim)),
    )
  const row: Tensor[] = []
  let at: Dim = 0
  while (at !== size) {
    const from: Dim = at
    const exact = rest.findIndex(({ start }) => start === from)
    if (exact >= 0) {
      const [part] = rest.splice(exact, 1)
      if (part === undefined) break
      row.push(part.gradient)
      at = part.end
      continue
    }
    // Symbolic bounds cannot be ordered, so a gap is filled up to a part only when the row is still empty.
    const next = row.length === 0 ? rest.shift() : undefined
    row.push(zeros(from, next?.start ?? size))
    if (next !== undefined) row.push(next.gradient)
    at = next?.end ?? size
  }
  return g.concat(row, axis)
}

function topologicalOrder(root: Tensor): Tensor[] {
  // Ids grow along every edge, so sorting by id is a topological order.
  const seen = new Set<Tensor>()
  const pending = [root]
  for (let tensor = pending.pop(); tensor !== undefined; tensor = pending.pop()) {
    if (seen.has(tensor)) continue
    seen.add(tensor)
    pending.push(...tensor.inputs)
  }
  return [...seen].sort((a, b) => a.id - b.id)
}

/** Gradients that one operation passes to its inputs; undefined where none flows. */
function backward(
  g: GraphBuilder,
  tensor: Tensor,
  gradient: Tensor,
  isNeeded: (input: Tensor) => boolean,
): (Tensor | undefined)[] {
  const { op } = tensor
  const input = (index: number): Tensor => {
    const found = tensor.inputs[index]
    if (found === undefined) throw new GspoError('BAD_GRAPH', `${describe(tensor)} has no input ${index}`)
    return found
  }
  const when = (index: number, make: () => Tensor): Tensor | undefined =>
    isNeeded(input(index)) ? make() : undefined

  switch (op.kind) {
    case 'add':
      return [0, 1].map((index) => when(index, () => unbroadcast(g, gradient, input(index).shape)))
    case 'sub':
      return [
        when(0, () => unbroadcast(g, gradient, input(0).shape)),
        when(1, () => unbroadcast(g, g.unary('neg', gradient), input(1).shape)),
      ]
    case 'mul':
      return [
        when(0, () => unbroadcast(g, g.mul(gradient, input(1)), input(0).shape)),
        when(1, () => unbroadcast(g, g.mul(gradient, input(0)), input(1).shape)),
      ]
    case 'div':
      return [
        when(0, () => unbroadcast(g, g.div(gradient, input(1)), input(0).shape)),
        when(1, () =>
          unbroadcast(g, g.unary('neg', g.div(g.mul(gradient, tensor), input(1))), input(1).shape),
        ),
      ]
    case 'min':
    case 'max': {
      // Where both are equal half goes to each, as in PyTorch.
      const [low, high] = op.kind === 'min' ? [input(0), input(1)] : [input(1), input(0)]
      const first = g.where(
        g.binary('equal', input(0), input(1)),
        g.constant(0.5),
        g.cast(g.binary('less', low, high), 'f32'),
      )
      return [
        when(0, () => unbroadcast(g, g.mul(gradient, first), input(0).shape)),
        when(1, () => unbroadcast(g, g.mul(gradient, g.sub(g.constant(1), first)), input(1).shape)),
      ]
    }
    case 'neg':
      return [g.unary('neg', gradient)]
    case 'exp':
      return [g.mul(gradient, tensor)]
    case 'log':
      return [g.div(gradient, input(0))]
    case 'sqrt':
      return [g.div(g.mul(gradient, g.constant(0.5)), tensor)]
    case 'sigmoid':
      return [g.mul(gradient, g.mul(tensor, g.sub(g.constant(1), tensor)))]
    case 'softplus':
      return [g.mul(gradient, g.unary('sigmoid', input(0)))]
    case 'where':
      return [
        undefined,
        when(1, () => unbroadcast(g, g.where(input(0), gradient, g.constant(0)), input(1).shape)),
        when(2, () => unbroadcast(g, g.where(input(0), g.constant(0), gradient), input(2).shape)),
      ]
    case 'matmul': {
      const { transA, transB, alpha } = op
      const [a, b] = [input(0), input(1)]
      return [
        when(0, () =>
          transA
            ? g.matmul(b, gradient, { transA: transB, transB: true, alpha })
            : g.matmul(gradient, b, { transB: !transB, alpha }),
        ),
        when(1, () =>
          transB
            ? g.matmul(gradient, a, { transA: true, transB: transA, alpha })
            : g.matmul(a, gradient, { transA: !transA, alpha }),
        ),
      ]
    }
    case 'groupMatmul': {
      const { transB, alpha } = op
      const [x, counts, ...matrices] = [input(0), input(1), ...tensor.inputs.slice(2)]
      const own = when(0, () => g.groupMatmul(gradient, counts, matrices, { transB: !transB, alpha }))
      if (!matrices.some(isNeeded)) return [own]
      const outer = transB
        ? g.groupOuter(gradient, x, counts, alpha)
        : g.groupOuter(x, gradient, counts, alpha)
      const rows = Number(dimOf(outer, 0)) / matrices.length
      const parts = matrices.map((_, group) => g.slice(outer, 0, group * rows, (group + 1) * rows))
      return [own, undefined, ...parts]
    }
    case 'softmax': {
      const weighted = g.mul(gradient, tensor)
      const total = g.sum(weighted, [tensor.shape.length - 1], true)
      return [g.sub(weighted, g.mul(tensor, total))]
    }
    case 'sum': {
      const kept = input(0).shape.map((dim, axis) => (op.axes.includes(axis) ? 1 : dim))
      return [g.expand(g.reshape(gradient, kept), input(0).shape)]
    }
    case 'reshape':
      return [g.reshape(gradient, input(0).shape)]
    case 'expand':
      return [unbroadcast(g, gradient, input(0).shape)]
    case 'transpose':
      return [
        g.transpose(
          gradient,
          op.perm.map((_, axis) => op.perm.indexOf(axis)),
        ),
      ]
    case 'concat': {
      let start: Dim = 0
      return tensor.inputs.map((part, index) => {
        const from = start
        start = addDims(from, dimOf(part, op.axis))
        const to = start
        return when(index, () => g.slice(gradient, op.axis, from, to))
      })
    }
    case 'gatherRows':
      return [g.scatterAddRows(gradient, input(1), dimOf(input(0), 0))]
    case 'scatterAddRows':
      return [g.gatherRows(gradient, input(1))]
    case 'pick':
      return [g.scatterPick(gradient, input(1), dimOf(input(0), 1))]
    case 'scatterPick':
      return [g.pick(gradient, input(1))]
    case 'rmsNorm': {
      // dx = r (u - n mean(u n)), u = gradient * weight, n = x r, r = the inverse root mean square.
      const [x, weight] = [input(0), input(1)]
      const inverse = g.inverseRms(x, op.epsilon)
      const normal = g.mul(x, inverse)
      const upstream = g.mul(gradient, weight)
      const axis = x.shape.length - 1
      const size = dimOf(x, axis)
      if (typeof size !== 'number') throw new GspoError('BAD_GRAPH', `rmsNorm over ${size} numbers`)
      const mean = g.mul(g.sum(g.mul(upstream, normal), [axis], true), g.constant(1 / size))
      return [
        when(0, () => g.mul(g.sub(upstream, g.mul(normal, mean)), inverse)),
        when(1, () => unbroadcast(g, g.mul(gradient, normal), weight.shape)),
      ]
    }
    case 'rope':
      // A rotation: its adjoint turns the other way. A scaling inside cos and sin stays as it is.
      return [g.rope(gradient, input(1), input(2), g.unary('neg', input(3)), op.heads)]
    case 'attachGradient':
      return [undefined, g.mul(g.reshape(gradient, [...gradient.shape, 1]), input(2)), undefined]
    case 'cast':
    case 'less':
    case 'equal':
    case 'stopGradient':
    case 'slice': // joined with its neighbours by the caller
    case 'topIndices':
    case 'nonZero':
      return []
    case 'input':
    case 'weight':
    case 'constant':
      return []
    case 'maximum':
    case 'inverseRms':
    case 'groupOuter':
      throw new GspoError('BAD_GRAPH', `${op.kind} has no gradient; put it behind stopGradient`)
  }
}

/** Sums a gradient over the axes along which its tensor was broadcast. */
function unbroadcast(g: GraphBuilder, gradient: Tensor, shape: Shape): Tensor {
  const extra = gradient.shape.length - shape.length
  const axes = gradient.shape.flatMap((dim, axis) =>
    axis < extra || (shape[axis - extra] === 1 && dim !== 1) ? [axis] : [],
  )
  const summed = axes.length === 0 ? gradient : g.sum(gradient, axes, true)
  return g.reshape(summed, shape)
}
