/** One primitive of a graph in TensorFlow.js operations. Pure but for the library's own memory: results are the caller's. */
import type * as core from '@tensorflow/tfjs-core'
import { GspoError } from '../errors.ts'
import { describe } from '../graph/graph.ts'
import type { DType, Op, Tensor } from '../graph/ops.ts'
import type { Tf } from './library.ts'

/** A value of the library. */
export type Value = core.Tensor

/** Element types by the library's names. */
export const TF_TYPE = { f32: 'float32', i32: 'int32', bool: 'bool' } as const satisfies Record<DType, string>

/** What a primitive is computed from; `dims` is its shape with every symbol bound. */
export interface Operands {
  readonly inputs: readonly Value[]
  readonly dims: readonly number[]
  /** First and last bound of a slice, with every symbol bound; only of slices. */
  readonly range?: readonly [start: number, end: number]
}

/** A primitive that is no source of values: inputs, weights and constants are the session's. */
export type ComputedOp = Exclude<Op, { kind: 'input' | 'weight' | 'constant' }>

/** Largest number of elements that an int32 offset reaches. */
const LARGEST_OFFSET = 2 ** 31

/** Numbers that are added up one after the other without losing a digit that matters. */
const LONGEST_PLAIN_SUM = 1024

/** Computes `tensor`, whose operation is `op`. A result may share memory with an input; the library counts its users. */
export function compute(tf: Tf, tensor: Tensor, op: ComputedOp, operands: Operands): Value {
  const { inputs } = operands
  const dims = [...operands.dims]
  const input = (index: number): Value => {
    const value = inputs[index]
    if (value === undefined) throw new GspoError('BAD_GRAPH', `${describe(tensor)} has no input ${index}`)
    return value
  }
  const first = input(0)
  switch (op.kind) {
    case 'add':
      return tf.add(first, input(1))
    case 'sub':
      return tf.sub(first, input(1))
    case 'mul':
      return tf.mul(first, input(1))
    case 'div':
      return tf.div(first, input(1))
    case 'min':
      return tf.minimum(first, input(1))
    case 'max':
      return tf.maximum(first, input(1))
    case 'less':
      return tf.less(first, input(1))
    case 'equal':
      return tf.equal(first, input(1))
    case 'where':
      return tf.where(first, input(1), input(2))
    case 'neg':
      return tf.neg(first)
    case 'exp':
      return tf.exp(first)
    case 'log':
      return tf.log(first)
    case 'sqrt':
      return tf.sqrt(first)
    case 'sigmoid':
      return tf.sigmoid(first)
    case 'softplus':
      return tf.softplus(first)
    case 'cast':
      return tf.cast(first, TF_TYPE[tensor.dtype])
    case 'matmul': {
      const product = tf.matMul(first, input(1), op.transA, op.transB)
      return op.alpha === 1 ? product : tf.mul(product, op.alpha)
    }
    case 'softmax':
      return tf.softmax(first)
    case 'sum':
      return sum(tf, first, op.axes, op.keepDims)
    case 'maximum':
      return tf.max(first, [...op.axes], op.keepDims)
    case 'reshape':
      return tf.reshape(first, dims)
    case 'expand':
      return tf.broadcastTo(first, dims)
    case 'transpose':
      return tf.transpose(first, [...op.perm])
    case 'slice':
      return slice(tf, tensor, op.axis, first, operands)
    case 'concat':
      return tf.concat([...inputs], op.axis)
    case 'gatherRows':
      return tf.gather(first, input(1))
    case 'scatterAddRows':
      return tf.scatterND(tf.expandDims(input(1), 1), first, dims)
    case 'pick':
      return tf.gather(tf.reshape(first, [-1]), rowOffsets(tf, input(1), first.shape[1] ?? 0))
    case 'scatterPick': {
      const [rows = 0, columns = 0] = dims
      const places = tf.reshape(rowOffsets(tf, input(1), columns), [-1, 1])
      return tf.reshape(tf.scatterND(places, tf.reshape(first, [-1]), [rows * columns]), dims)
    }
    case 'topIndices':
      return tf.topk(first, op.k, true).indices
    case 'nonZero':
      return truePositions(tf, first)
    case 'groupMatmul': {
      const [x, counts, ...matrices] = inputs
      const parts = rowGroups(tf, x ?? first, counts ?? first).map((rows, group) =>
        tf.matMul(rows, matrices[group] ?? first, false, op.transB),
      )
      const product = tf.concat(parts, 0)
      return op.alpha === 1 ? product : tf.mul(product, op.alpha)
    }
    case 'groupOuter': {
      const others = rowGroups(tf, input(1), input(2))
      const parts = rowGroups(tf, first, input(2)).map((rows, group) =>
        tf.matMul(rows, others[group] ?? first, true, false),
      )
      const product = tf.concat(parts, 0)
      return op.alpha === 1 ? product : tf.mul(product, op.alpha)
    }
    case 'rmsNorm':
      return tf.mul(tf.mul(first, inverseRms(tf, first, op.epsilon)), input(1))
    case 'inverseRms':
      return inverseRms(tf, first, op.epsilon)
    case 'rope':
      return rope(tf, first, input(1), [input(2), input(3)], op.heads)
    case 'stopGradient':
    case 'attachGradient':
      return tf.clone(first)
  }
}

function slice(tf: Tf, tensor: Tensor, axis: number, x: Value, { range }: Operands): Value {
  if (range === undefined) throw new GspoError('BAD_GRAPH', `${describe(tensor)} has no bounds`)
  const [start, end] = range
  const begin = x.shape.map((_, index) => (index === axis ? start : 0))
  const size = x.shape.map((dim, index) => (index === axis ? end - start : dim))
  return tf.slice(x, begin, size)
}

/**
 * A sum over axes. WebAssembly adds number after number in float32: a long axis is added up in two steps there, about as
 * many numbers in each, so that a million keep five digits.
 */
function sum(tf: Tf, x: Value, axes: readonly number[], keepDims: boolean): Value {
  if (tf.getBackend() !== 'wasm') return tf.sum(x, [...axes], keepDims)
  const kept = axes.reduce((value, axis) => sumOver(tf, value, axis), x)
  return keepDims ? kept : tf.squeeze(kept, [...axes])
}

/** A sum over one axis, which stays with size 1. */
function sumOver(tf: Tf, x: Value, axis: number): Value {
  const size = x.shape[axis] ?? 0
  if (size <= LONGEST_PLAIN_SUM) return tf.sum(x, axis, true)
  const [before, after] = [x.shape.slice(0, axis), x.shape.slice(axis + 1)]
  const rows = Math.floor(Math.sqrt(size))
  const columns = Math.floor(size / rows)
  const part = (from: number, count: number): Value =>
    tf.slice(x, [...before.map(() => 0), from], [...before, count])
  const blocks = tf.reshape(part(0, rows * columns), [...before, rows, columns, ...after])
  const total = tf.sum(tf.sum(blocks, axis + 1), axis, true)
  const rest = size - rows * columns
  return rest === 0 ? total : tf.add(total, tf.sum(part(rows * columns, rest), axis, true))
}

/** Places in a flat [N, columns] of the column that `index` [N, k] names in each row. */
function rowOffsets(tf: Tf, index: Value, columns: number): Value {
  const rows = index.shape[0] ?? 0
  if (rows * columns >= LARGEST_OFFSET)
    throw new GspoError(
      'ENGINE_FAILED',
      `${rows} x ${columns} elements are more than 32-bit offsets reach; use smaller batches`,
    )
  const starts = Int32Array.from({ length: rows }, (_, row) => row * columns)
  return tf.add(index, tf.tensor2d(starts, [rows, 1], 'int32'))
}

/** The size of the result is known only from the values, so they are read back. */
function truePositions(tf: Tf, x: Value): Value {
  const flags = x.dataSync()
  const places: number[] = []
  for (let i = 0; i < flags.length; i++) if (flags[i] !== 0) places.push(i)
  // Coordinates along the last axis first, then what is left for the axes before it.
  const rows = x.shape.toReversed().map((size) => {
    const row = places.map((place) => place % size)
    for (const [at, place] of places.entries()) places[at] = Math.floor(place / size)
    return row
  })
  return tf.tensor2d(Int32Array.from(rows.toReversed().flat()), [rows.length, places.length], 'int32')
}

/** Consecutive groups of rows, of the sizes that `counts` holds. */
function rowGroups(tf: Tf, x: Value, counts: Value): Value[] {
  const [, width = 0] = x.shape
  let start = 0
  return [...counts.dataSync()].map((count) => {
    const rows = tf.slice(x, [start, 0], [count, width])
    start += count
    return rows
  })
}

function inverseRms(tf: Tf, x: Value, epsilon: number): Value {
  return tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), epsilon))
}

/** Turns the leading numbers of every head, in halves, by the angles of its token's position. */
function rope(tf: Tf, x: Value, positions: Value, [cos, sin]: readonly [Value, Value], heads: number): Value {
  const [rows = 0, length = 0, width = 0] = x.shape
  const tokens = rows * length
  const [size, pairs] = [width / heads, cos.shape[1] ?? 0]
  const places = tf.reshape(positions, [tokens])
  const [c, s] = [cos, sin].map((table) => tf.reshape(tf.gather(table, places), [tokens, 1, pairs]))
  const byHead = tf.reshape(x, [tokens, heads, size])
  const part = (from: number, count: number): Value => tf.slice(byHead, [0, 0, from], [tokens, heads, count])
  const [low, high] = [part(0, pairs), part(pairs, pairs)]
  const turned = [
    tf.sub(tf.mul(low, c ?? cos), tf.mul(high, s ?? sin)),
    tf.add(tf.mul(high, c ?? cos), tf.mul(low, s ?? sin)),
  ]
  const rest = size - 2 * pairs
  return tf.reshape(tf.concat(rest > 0 ? [...turned, part(2 * pairs, rest)] : turned, 2), x.shape)
}
