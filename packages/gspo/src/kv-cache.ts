/**
 * Keys and values of softmax attention while decoding, in plain typed arrays. Memory for all tokens to come is taken
 * once where the caller says how many, and rows and places move inside it: new arrays every few tokens would cost page
 * faults, and garbage collections beside the engine's threads.
 */
import { CACHE_BLOCK_TOKENS } from './defaults.ts'
import type { Feed } from './engine/engine.ts'
import type { ModelConfig } from './models/config.ts'
import { cacheNames } from './models/decode-graph.ts'
import type { DecodingRoom } from './policy-types.ts'

/** The cache of all layers of softmax attention, each [rows, kvHeads, capacity, size], `filled` of it with tokens. */
export class KvCache {
  /** Tokens that each row has. */
  filled = 0
  private readonly config: ModelConfig
  private readonly layers: readonly number[]
  private readonly room: DecodingRoom
  private rows: number
  /** Places for tokens of each row, in whole blocks. */
  private places = 0
  /** For each layer keys, then values; the front of each is used. */
  private memory: Float32Array[] = []
  private feeds: Readonly<Record<string, Feed>> = {}
  private target: Feed = { dims: [0], values: new Float32Array(0) }

  constructor(config: ModelConfig, rows: number, room: DecodingRoom) {
    this.config = config
    this.layers = config.linearLayers.flatMap((isLinear, layer) => (isLinear ? [] : [layer]))
    this.rows = rows
    this.room = room
  }

  get capacity(): number {
    return this.places
  }

  /** The graph's inputs; the same objects until rows or capacity change, so that an engine wraps them once. */
  inputs(): Readonly<Record<string, Feed>> {
    return this.feeds
  }

  /** Where a step of `queries` tokens is to write its keys and values: [2 * layers, rows, kvHeads, queries, size]. */
  fresh(queries: number): Feed {
    const { kvHeads, headSize } = this.config
    const dims = [2 * this.layers.length, this.rows, kvHeads, queries, headSize]
    if (this.target.dims.length !== dims.length || this.target.dims.some((size, axis) => size !== dims[axis]))
      this.target = { dims, values: new Float32Array(dims.reduce((product, size) => product * size, 1)) }
    return this.target
  }

  /** Makes room for `tokens` places, in blocks so that growing is rare and the engine sees few different sizes. */
  reserve(tokens: number): void {
    if (tokens <= this.places) return
    const places = Math.ceil(tokens / CACHE_BLOCK_TOKENS) * CACHE_BLOCK_TOKENS
    const same = Array.from({ length: this.rows }, (_, row) => row)
    this.arrange(same, places)
  }

  /** Keeps these rows, in this order; a row may come several times. */
  select(rows: readonly number[]): void {
    this.arrange(rows, this.places)
  }

  /** Takes what a step wrote to `fresh` behind the tokens that are there. */
  append(queries: number): void {
    const fresh = this.target.values
    this.reserve(this.filled + queries)
    const { kvHeads, headSize } = this.config
    const blocks = this.rows * kvHeads
    const width = queries * headSize
    for (const [index, cache] of this.memory.entries()) {
      const base = index * blocks * width
      for (let block = 0; block < blocks; block++) {
        const to = (block * this.places + this.filled) * headSize
        const from = base + block * width
        // An element loop: for the few dozen numbers of one token it is faster than subarray and set.
        if (width <= 256) for (let i = 0; i < width; i++) cache[to + i] = fresh[from + i]
        else cache.set(fresh.subarray(from, from + width), to)
      }
    }
    this.filled += queries
  }

  /** Lets go of the memory. */
  clear(): void {
    this.memory = []
    this.feeds = {}
  }

  /** Moves the tokens of `rows` to where they lie with this order and capacity, inside the same memory where that works. */
  private arrange(rows: readonly number[], places: number): void {
    const { kvHeads, headSize } = this.config
    const length = rows.length * kvHeads * places * headSize
    const order = moveOrder(rows)
    // One after the other, so that never two copies of all caches are alive.
    for (let index = 0; index < 2 * this.layers.length; index++) {
      const from = this.memory[index]
      const fits = from !== undefined && length <= from.length && order !== undefined
      const to = fits ? from : new Float32Array(Math.max(length, this.roomLength()))
      if (from !== undefined) this.move(from, to, rows, places, order === 'up')
      this.memory[index] = to
    }
    this.rows = rows.length
    this.places = places
    const dims = [rows.length, kvHeads, places, headSize]
    const feeds: Record<string, Feed> = {}
    for (const [index, layer] of this.layers.entries()) {
      const names = cacheNames(layer)
      const front = (of: number): Feed => ({
        dims,
        values: this.memory[of]?.subarray(0, length) ?? new Float32Array(0),
      })
      feeds[names.keys] = front(2 * index)
      feeds[names.values] = front(2 * index + 1)
    }
    this.feeds = feeds
  }

  private move(
    from: Float32Array,
    to: Float32Array,
    rows: readonly number[],
    places: number,
    isUpwards: boolean,
  ): void {
    const { kvHeads, headSize } = this.config
    const width = this.filled * headSize
    const blocks = rows.length * kvHeads
    for (let step = 0; step < blocks; step++) {
      const block = isUpwards ? step : blocks - 1 - step
      const row = Math.floor(block / kvHeads)
      const source = ((rows[row] ?? 0) * kvHeads + (block % kvHeads)) * this.places * headSize
      const target = block * places * headSize
      if (from !== to) to.set(from.subarray(source, source + width), target)
      else if (source !== target) to.copyWithin(target, source, source + width)
    }
  }

  /** Numbers of one layer's keys when all rows and tokens that were announced are there. */
  private roomLength(): number {
    const { kvHeads, headSize } = this.config
    const places = Math.ceil(this.room.tokens / CACHE_BLOCK_TOKENS) * CACHE_BLOCK_TOKENS
    return this.room.rows * kvHeads * places * headSize
  }
}

/**
 * In which order rows can move within their memory, to no smaller capacity, so that none overwrites another that is
 * still to move: `down` from the last where each moves towards the back or stays, `up` from the first where each moves
 * towards the front; undefined for neither.
 */
function moveOrder(rows: readonly number[]): 'up' | 'down' | undefined {
  const rises = (least: number): boolean =>
    rows.every((row, to) => to === 0 || row - (rows[to - 1] ?? 0) >= least)
  if (rises(0) && rows.every((row, to) => row <= to)) return 'down'
  return rises(1) ? 'up' : undefined
}
