/**
 * Keys and values of softmax attention while decoding: of prompts, of which all rows of a block see one copy, and of what
 * each row has had since. While prompts run through the model they are rows like others; `endPrompts` sets them apart.
 */
import { CACHE_BLOCK_TOKENS } from './defaults.ts'
import type { DecodingBlocks } from './decoding-blocks.ts'
import type { Feed } from './engine/engine.ts'
import { KvStore, type StoreSizes } from './kv-store.ts'
import type { ModelConfig } from './models/model-config.ts'
import { cacheNames } from './models/decode-graph.ts'
import type { DecodingRoom } from './policy-types.ts'

/** The cache of all layers of softmax attention. */
export class KvCache {
  private readonly sizes: StoreSizes
  private readonly layers: readonly number[]
  private readonly room: DecodingRoom
  private prompts: KvStore
  private own: KvStore
  /** Prompt of each block. */
  private promptOf: readonly number[]
  private feeds: Readonly<Record<string, Feed>> = {}
  private target: Feed = { dims: [0], values: new Float32Array(0) }

  /** A block of one row for each prompt; no tokens yet. */
  constructor(config: ModelConfig, prompts: number, room: DecodingRoom) {
    const { kvHeads, headSize } = config
    this.layers = config.linearLayers.flatMap((isLinear, layer) => (isLinear ? [] : [layer]))
    this.sizes = { arrays: 2 * this.layers.length, kvHeads, headSize }
    this.room = room
    this.promptOf = Array.from({ length: prompts }, (_, prompt) => prompt)
    const shape = { blocks: prompts, members: 1, places: 1 }
    // A place that nobody sees stands in for what is empty: engines do not agree on tensors without elements.
    this.prompts = new KvStore(this.sizes, shape, { rows: 0, places: 0 })
    this.own = new KvStore(this.sizes, { ...shape, places: CACHE_BLOCK_TOKENS }, { rows: 0, places: 0 })
    this.feeds = this.inputs()
  }

  /** Tokens of each prompt and of each row since, and the places that there are for them. */
  get extent(): { promptFilled: number; promptPlaces: number; filled: number; places: number } {
    const { prompts, own } = this
    return {
      promptFilled: prompts.filled,
      promptPlaces: prompts.shape.places,
      filled: own.filled,
      places: own.shape.places,
    }
  }

  /** The graph's inputs; the same objects until rows or places change, so that an engine wraps them once. */
  get current(): Readonly<Record<string, Feed>> {
    return this.feeds
  }

  /** Where a step of `queries` tokens is to write its keys and values: [2 * layers, blocks, kvHeads, members, queries, size]. */
  fresh(queries: number): Feed {
    const { arrays, kvHeads, headSize } = this.sizes
    const { blocks, members } = this.own.shape
    const dims = [arrays, blocks, kvHeads, members, queries, headSize]
    if (this.target.dims.length !== dims.length || this.target.dims.some((size, axis) => size !== dims[axis]))
      this.target = { dims, values: new Float32Array(dims.reduce((product, size) => product * size, 1)) }
    return this.target
  }

  /** Takes what a step wrote to `fresh` behind the tokens that are there. */
  append(queries: number): void {
    this.reserve(this.own.filled + queries)
    this.own.append(this.target.values, queries)
  }

  /** What has been fed so far were the prompts. */
  endPrompts(): void {
    const { blocks } = this.own.shape
    this.prompts = this.own
    this.own = new KvStore(
      this.sizes,
      { blocks, members: 1, places: CACHE_BLOCK_TOKENS },
      { rows: this.room.rows, places: inBlocks(this.room.tokens - this.prompts.filled) },
    )
    this.feeds = this.inputs()
  }

  /** Row `to` of these blocks gets what row `rows[to]` has; each block sees its prompt. */
  select(rows: readonly number[], { members, prompts }: DecodingBlocks): void {
    const { places } = this.own.shape
    this.own.arrange(rows, { blocks: prompts.length, members, places })
    const isSame =
      prompts.length === this.promptOf.length && prompts.every((prompt, at) => prompt === this.promptOf[at])
    if (!isSame)
      this.prompts.arrange(
        prompts.map((prompt) => this.promptOf.indexOf(prompt)),
        { ...this.prompts.shape, blocks: prompts.length },
      )
    this.promptOf = prompts
    this.feeds = this.inputs()
  }

  /** Lets go of the memory. */
  clear(): void {
    const none = { blocks: 0, members: 0, places: 0 }
    this.prompts = this.own = new KvStore(this.sizes, none, { rows: 0, places: 0 })
    this.feeds = {}
  }

  /** Makes room for `tokens` tokens a row, in steps so that growing is rare and the engine sees few different sizes. */
  private reserve(tokens: number): void {
    const { shape } = this.own
    if (tokens <= shape.places) return
    const same = Array.from({ length: shape.blocks * shape.members }, (_, row) => row)
    this.own.arrange(same, { ...shape, places: inBlocks(tokens) })
    this.feeds = this.inputs()
  }

  private inputs(): Record<string, Feed> {
    const feeds: Record<string, Feed> = {}
    const [prompts, own] = [this.prompts.feeds(), this.own.feeds()]
    for (const [index, layer] of this.layers.entries()) {
      const names = cacheNames(layer)
      for (const [offset, part] of (['keys', 'values'] as const).entries()) {
        const [prompt, row] = [prompts[2 * index + offset], own[2 * index + offset]]
        if (prompt !== undefined) feeds[names.prompt[part]] = withoutMembers(prompt)
        if (row !== undefined) feeds[names.own[part]] = row
      }
    }
    return feeds
  }
}

/** Places for so many tokens. */
function inBlocks(tokens: number): number {
  return Math.max(Math.ceil(tokens / CACHE_BLOCK_TOKENS), 0) * CACHE_BLOCK_TOKENS
}

/** Blocks of one member without that axis. */
function withoutMembers({ dims: [blocks = 0, kvHeads = 0, , places = 0, size = 0], values }: Feed): Feed {
  return { dims: [blocks, kvHeads, places, size], values }
}
