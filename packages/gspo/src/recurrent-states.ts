/** What layers of linear attention keep while decoding: two buffers each, one read and one written by a step. */
import type { Feed } from './engine/engine.ts'
import type { ModelConfig } from './models/model-config.ts'
import { stateNames } from './models/decode-graph.ts'
import { linearSizes } from './models/modules.ts'

interface StateBuffer {
  /** Of the graph's input; its output has `next_` before it. */
  readonly name: string
  /** Of one row. */
  readonly shape: readonly number[]
  values: Float32Array
  spare: Float32Array
}

/** States of all layers of linear attention for some rows; none for models without. Zeros at first. */
export class RecurrentStates {
  private readonly config: ModelConfig
  private readonly rows: number
  private readonly buffers: readonly StateBuffer[]

  constructor(config: ModelConfig, rows: number, buffers?: readonly StateBuffer[]) {
    this.config = config
    this.rows = rows
    this.buffers = buffers ?? emptyBuffers(config, rows)
  }

  /** Feeds with the states as they are. */
  current(): Record<string, Feed> {
    return Object.fromEntries(this.buffers.map(({ name, values, shape }) => [name, this.feed(values, shape)]))
  }

  /** Where a step is to write the states after it. */
  next(): Record<string, Feed> {
    return Object.fromEntries(
      this.buffers.map(({ name, spare, shape }) => [`next_${name}`, this.feed(spare, shape)]),
    )
  }

  /** Takes what a step wrote as the states that are. */
  advance(): void {
    for (const buffer of this.buffers) [buffer.values, buffer.spare] = [buffer.spare, buffer.values]
  }

  /** The states of these rows, in their order. */
  select(rows: readonly number[]): RecurrentStates {
    const buffers = this.buffers.map(({ name, shape, values }) => {
      const picked = gatherBlocks(values, rows, sizeOf(shape))
      return { name, shape, values: picked, spare: new Float32Array(picked.length) }
    })
    return new RecurrentStates(this.config, rows.length, buffers)
  }

  private feed(values: Float32Array, shape: readonly number[]): Feed {
    return { dims: [this.rows, ...shape], values }
  }
}

/** Blocks of `size` numbers, in this order. */
export function gatherBlocks(
  values: Float32Array,
  blocks: readonly number[],
  size: number,
): Float32Array<ArrayBuffer> {
  const gathered = new Float32Array(blocks.length * size)
  gatherInto(gathered, values, blocks, size)
  return gathered
}

/** As `gatherBlocks`, into `target`. */
export function gatherInto(
  target: Float32Array | Int32Array,
  values: Float32Array | Int32Array,
  blocks: readonly number[],
  size: number,
): void {
  for (const [to, from] of blocks.entries())
    target.set(values.subarray(from * size, (from + 1) * size), to * size)
}

function emptyBuffers(config: ModelConfig, rows: number): StateBuffer[] {
  const { linear } = config
  if (linear === null) return []
  return config.linearLayers.flatMap((isLinear, layer) => {
    if (!isLinear) return []
    const names = stateNames(layer)
    const shapes: [string, number[]][] = [
      [names.recent, [linear.kernel - 1, linearSizes(linear).channels]],
      [names.memory, [linear.valueHeads, linear.keySize, linear.valueSize]],
    ]
    return shapes.map(([name, shape]) => {
      const zeros = (): Float32Array => new Float32Array(rows * sizeOf(shape))
      return { name, shape, values: zeros(), spare: zeros() }
    })
  })
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}
