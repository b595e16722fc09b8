/** Products of groups of rows, each group with a matrix of its own: one Split, a product a group, one Concat. */
import { ONNX_TYPE, type OnnxModel } from './model.ts'
import type { ShapeEmitter } from './shapes.ts'
import type { LoweringTarget } from './weights.ts'

/** Emits what works on groups of rows whose sizes are known only at run time. */
export class GroupEmitter {
  private readonly model: OnnxModel
  private readonly shapes: ShapeEmitter
  private readonly target: LoweringTarget
  private readonly known = new Map<string, readonly string[]>()

  constructor(model: OnnxModel, shapes: ShapeEmitter, target: LoweringTarget) {
    this.model = model
    this.shapes = shapes
    this.target = target
  }

  /** `product` of each group of `x`, joined again. */
  products(
    x: string,
    counts: string,
    groups: number,
    product: (rows: string, group: number) => string,
  ): string {
    return this.model.node('Concat', this.split(x, counts, groups).map(product), { axis: 0 })
  }

  /** `product` of each group of a with the same group of b, one below the other. */
  outer(
    [a = '', b = '', counts = '']: readonly string[],
    groups: number,
    product: (a: string, b: string) => string,
  ): string {
    const other = this.split(b, counts, groups)
    const parts = this.split(a, counts, groups).map((rows, group) => product(rows, other[group] ?? ''))
    return this.model.node('Concat', parts, { axis: 0 })
  }

  private split(x: string, counts: string, groups: number): readonly string[] {
    const key = `${x} ${counts}`
    const known = this.known.get(key)
    if (known !== undefined) return known
    const made =
      this.target.provider === 'webgpu' ? this.slices(x, counts, groups) : this.cut(x, counts, groups)
    this.known.set(key, made)
    return made
  }

  private cut(x: string, counts: string, groups: number): readonly string[] {
    const outputs = Array.from({ length: groups }, (_, group) => `${x}_group${group}`)
    this.model.node('Split', [x, this.sizes(counts)], { axis: 0 }, { outputs })
    return outputs
  }

  /** A Split on WebGPU has few outputs. */
  private slices(x: string, counts: string, groups: number): readonly string[] {
    const ends = this.once(`${counts} ends`, () =>
      this.model.node('CumSum', [this.sizes(counts), this.shapes.int64([0])]),
    )
    const end = (group: number): string =>
      group < 0
        ? this.shapes.int64([0])
        : this.once(`${counts} end ${group}`, () =>
            this.model.node('Gather', [ends, this.shapes.int64([group])], { axis: 0 }),
          )
    return Array.from({ length: groups }, (_, group) =>
      this.model.node('Slice', [x, end(group - 1), end(group), this.shapes.int64([0])]),
    )
  }

  private sizes(counts: string): string {
    return this.once(`${counts} sizes`, () => this.model.node('Cast', [counts], { to: ONNX_TYPE.i64 }))
  }

  private once(key: string, make: () => string): string {
    const [known] = this.known.get(key) ?? []
    if (known !== undefined) return known
    const made = make()
    this.known.set(key, [made])
    return made
  }
}
