/** Frozen weights inside an ONNX model: references into files, widened or dequantised where they are used. */
import path from 'node:path'
import type { StoredType, WeightSource } from '../graph/ops.ts'
import { ONNX_TYPE, type OnnxModel } from './model.ts'
import type { ShapeEmitter } from './shapes.ts'

const STORED_TYPE: Record<StoredType, number> = {
  F32: ONNX_TYPE.f32,
  F16: ONNX_TYPE.f16,
  BF16: ONNX_TYPE.bf16,
  U4: ONNX_TYPE.uint4,
  U8: ONNX_TYPE.uint8,
}

/** What a lowered model is for: how weights lie (see CompileOptions) and what runs it. */
export interface LoweringTarget {
  readonly weights: 'repack' | 'share'
  readonly provider: 'cpu' | 'webgpu'
}

/**
 * Accuracy level of MatMulNBits: decoding multiplies in 8-bit integers, three times as fast as float32 for few rows;
 * training in float32, for which the kernel widens the codes on all threads, three times as fast as DequantizeLinear.
 */
const ACCURACY_LEVEL = { repack: 4, share: 0 }

/** Emits weights; quantised ones afresh at every use, so that no runtime keeps their floats from one use to the next. */
export class WeightEmitter {
  private readonly model: OnnxModel
  private readonly folder: string
  private readonly target: LoweringTarget
  private readonly shapes: ShapeEmitter
  private uses = 0

  constructor(model: OnnxModel, shapes: ShapeEmitter, folder: string, target: LoweringTarget) {
    this.model = model
    this.shapes = shapes
    this.folder = folder
    this.target = target
  }

  /** The whole tensor as float32. */
  floats(source: WeightSource): string {
    if (source.scales !== undefined) return this.dequantised(source)
    const name = this.values(source)
    return source.stored === 'F32' ? name : this.model.node('Cast', [name], { to: ONNX_TYPE.f32 })
  }

  /** Some rows as float32: only they are widened. */
  rows(source: WeightSource, index: string): string {
    if (source.scales !== undefined) return this.model.node('Gather', [this.dequantised(source), index])
    // Not every GPU computes with 16-bit floats; the table is widened once, when the session is made.
    if (source.stored === 'F16' && this.target.provider === 'webgpu')
      return this.model.node('Gather', [this.floats(source), index], { axis: 0 })
    const rows = this.model.node('Gather', [this.values(source), index], { axis: 0 })
    return source.stored === 'F32' ? rows : this.model.node('Cast', [rows], { to: ONNX_TYPE.f32 })
  }

  /** x W^T; undefined where nothing is special about it. */
  product(x: string, source: WeightSource): string | undefined {
    const { weights, provider } = this.target
    if (source.scales === undefined || (weights === 'share' && provider !== 'cpu')) return undefined
    const bits = source.stored === 'U8' ? 8 : 4
    const { block } = source.scales
    const [rows = 0, columns = 0] = source.shape
    const count = columns / block
    const codes = this.model.external(
      `${labelOf(source)} packed`,
      ONNX_TYPE.uint8,
      [rows, count, (block * bits) / 8],
      this.place(source),
    )
    const scales = this.scales(source, 'packed', [rows * count])
    const accuracy_level = ACCURACY_LEVEL[weights]
    const attributes = { K: columns, N: rows, bits, block_size: block, accuracy_level }
    return this.model.node('MatMulNBits', [x, codes, scales], attributes, { domain: 'com.microsoft' })
  }

  private values(source: WeightSource): string {
    return this.model.external(labelOf(source), STORED_TYPE[source.stored], source.shape, this.place(source))
  }

  /**
   * Names differ from use to use: the runtime would join equal nodes and keep all floats until the last use. On a CPU
   * each block is a row with a scale of its own, for which the kernel takes less than two thirds of the time that it
   * takes for blocks along an axis.
   */
  private dequantised(source: WeightSource): string {
    const [rows = 0, columns = 0] = source.shape
    if (source.scales === undefined) return this.values(source)
    const { block, zerosOffset } = source.scales
    const isFlat = this.target.provider === 'cpu'
    const count = (rows * columns) / block
    const perBlock = isFlat ? [count] : [rows, columns / block]
    const label = isFlat ? `${labelOf(source)} flat` : labelOf(source)
    const type = STORED_TYPE[source.stored]
    const codes = this.model.external(label, type, isFlat ? [count, block] : source.shape, this.place(source))
    const scales = this.scales(source, `use ${this.uses++}`, perBlock)
    const bits = source.stored === 'U8' ? 8 : 4
    const zeros = this.model.external(`${label} zeros`, type, perBlock, {
      location: this.locate(source),
      offset: zerosOffset,
      length: Math.ceil((count * bits) / 8),
    })
    if (!isFlat)
      return this.model.node('DequantizeLinear', [codes, scales, zeros], { axis: 1, block_size: block })
    const floats = this.model.node('DequantizeLinear', [codes, scales, zeros], { axis: 0 })
    return this.model.node('Reshape', [floats, this.shapes.int64(source.shape)])
  }

  private scales(source: WeightSource, use: string, dims: readonly number[]): string {
    return this.model.external(`${labelOf(source)} scales ${use}`, ONNX_TYPE.f32, dims, {
      location: this.locate(source),
      offset: source.scales?.offset ?? 0,
      length: dims.reduce((product, dim) => product * dim, 4),
    })
  }

  private place(source: WeightSource): { location: string; offset: number; length: number } {
    return { location: this.locate(source), offset: source.offset, length: source.byteLength }
  }

  private locate(source: WeightSource): string {
    return path.relative(this.folder, source.file)
  }
}

/** A matrix may occur twice: as it was, for looking rows up, and prepared for products. */
function labelOf({ name, stored }: WeightSource): string {
  return `${name} ${stored}`
}
