/** Rows added up at their places, in an order that does not depend on threads. */
import type { Shape } from '../graph/dims.ts'
import { ONNX_TYPE, type OnnxModel } from './model.ts'
import type { ShapeEmitter } from './shapes.ts'
import type { LoweringTarget } from './weights.ts'

/**
 * `zeros` plus each row of x, of `shape`, at its index. On the processor ScatterND adds from several threads at once and
 * loses some of what meets in a row (onnxruntime 1.30, two threads); ScatterElements adds from one thread, and wants an
 * index for every element.
 */
export function scatterAddRows(
  model: OnnxModel,
  shapes: ShapeEmitter,
  { provider }: LoweringTarget,
  { zeros, x, index, shape }: { zeros: string; x: string; index: string; shape: Shape },
): string {
  if (provider === 'webgpu') {
    const wide = model.node('Cast', [index], { to: ONNX_TYPE.i64 })
    const rows = model.node('Reshape', [wide, shapes.int64([-1, 1])])
    return model.node('ScatterND', [zeros, rows, x], { reduction: 'add' })
  }
  const column = shapes.int64([-1, ...shape.slice(1).map(() => 1)])
  const places =
    shape.length === 1
      ? index
      : model.node('Expand', [model.node('Reshape', [index, column]), shapes.shape(shape)])
  return model.node('ScatterElements', [zeros, places, x], { axis: 0, reduction: 'add' })
}
