/** The primitive operations of a graph, as data: what an engine must implement and nothing else. */
import type { Dim, Shape } from './dims.ts'

/** Element types: float32, int32 (token ids, indices) and booleans. */
export type DType = 'f32' | 'i32' | 'bool'

/** How a frozen tensor lies in its file: floats, or codes of 4 or 8 bits in blocks. */
export type StoredType = 'F32' | 'F16' | 'BF16' | 'U4' | 'U8'

/** Scales (float32) of a quantised matrix, in the same file. */
export interface QuantScales {
  /** Numbers of a row that share a scale. */
  readonly block: number
  /** First byte of the scales. */
  readonly offset: number
  /** First byte of the codes of zero, one a block, of as many bits as the others. */
  readonly zerosOffset: number
}

/** A frozen tensor in a file; engines read or map it themselves and give it to the graph as float32. */
export interface WeightSource {
  readonly name: string
  /** Absolute path, free of symbolic links. */
  readonly file: string
  /** First byte in the file. */
  readonly offset: number
  readonly byteLength: number
  readonly stored: StoredType
  readonly shape: readonly number[]
  /** Only where `stored` is U4 or U8. */
  readonly scales?: QuantScales
}

/** Elementwise functions of two tensors, with NumPy broadcasting. */
export type BinaryKind = 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'less' | 'equal'

/** Elementwise functions of one tensor. */
export type UnaryKind = 'neg' | 'exp' | 'log' | 'sqrt' | 'sigmoid' | 'softplus'

/** One primitive with its attributes; negative axes are resolved by the builder. */
export type Op =
  | { readonly kind: 'input'; readonly name: string }
  | { readonly kind: 'weight'; readonly source: WeightSource }
  | { readonly kind: 'constant'; readonly values: readonly number[] }
  | { readonly kind: BinaryKind }
  | { readonly kind: UnaryKind }
  | { readonly kind: 'cast' }
  /** where(condition, a, b) */
  | { readonly kind: 'where' }
  /** alpha * a b over the last two axes, either transposed; leading axes are equal. */
  | { readonly kind: 'matmul'; readonly transA: boolean; readonly transB: boolean; readonly alpha: number }
  /** Over the last axis. */
  | { readonly kind: 'softmax' }
  | { readonly kind: 'sum' | 'maximum'; readonly axes: readonly number[]; readonly keepDims: boolean }
  | { readonly kind: 'reshape' }
  | { readonly kind: 'expand' }
  | { readonly kind: 'transpose'; readonly perm: readonly number[] }
  | { readonly kind: 'slice'; readonly axis: number; readonly start: Dim; readonly end: Dim }
  | { readonly kind: 'concat'; readonly axis: number }
  /** rows(x [T, ...], index [N]) -> [N, ...] */
  | { readonly kind: 'gatherRows' }
  /** scatterAddRows(x [N, ...], index [N]) -> [T, ...]: zeros plus each row of x at its index. */
  | { readonly kind: 'scatterAddRows' }
  /** pick(x [N, V], index [N, k]) -> [N, k]: elements of each row. */
  | { readonly kind: 'pick' }
  /** scatterPick(x [N, k], index [N, k]) -> [N, V]: the adjoint of pick. */
  | { readonly kind: 'scatterPick' }
  /** Indices of the k largest of the last axis, largest first, as i32. */
  | { readonly kind: 'topIndices'; readonly k: number }
  /** Coordinates of the true elements, row by row, [rank, n] as i32: a size known only at run time. */
  | { readonly kind: 'nonZero' }
  /**
   * groupMatmul(x [N, in], counts [E], E matrices) -> [N, out]: alpha times the first counts[0] rows of x by the first
   * matrix, the next counts[1] by the second, and so on; counts sum to N. Matrices are [in, out], or [out, in] and transposed.
   */
  | { readonly kind: 'groupMatmul'; readonly transB: boolean; readonly alpha: number }
  /** groupOuter(a [N, p], b [N, q], counts [E]) -> [E * p, q]: alpha a^T b of each group of rows, one below the other. */
  | { readonly kind: 'groupOuter'; readonly alpha: number }
  /** x / sqrt(mean(x^2) + epsilon) * w over the last axis. */
  | { readonly kind: 'rmsNorm'; readonly epsilon: number }
  /** 1 / sqrt(mean(x^2) + epsilon) over the last axis, kept as size 1. */
  | { readonly kind: 'inverseRms'; readonly epsilon: number }
  /**
   * Rotary position embedding in halves: rope(x [B, S, heads * size], positions [B, S], cos [M, r/2], sin [M, r/2]),
   * turning the first r = 2 * cos.shape[1] numbers of each head.
   */
  | { readonly kind: 'rope'; readonly heads: number }
  /** Its argument, with no gradient. */
  | { readonly kind: 'stopGradient' }
  /** attachGradient(value [N], x [N, H], jacobian [N, H]): value; its gradient to x is g[n] * jacobian[n]. */
  | { readonly kind: 'attachGradient' }

/** The name of a primitive. */
export type OpKind = Op['kind']

/** One value of a graph: the result of one operation. */
export interface Tensor {
  readonly id: number
  readonly op: Op
  readonly inputs: readonly Tensor[]
  readonly shape: Shape
  readonly dtype: DType
}
