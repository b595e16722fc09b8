/** Autoregressive decoding over a compiled decoding graph; see `KvCache` for what is kept. */
import { levelsFeed, MASKED } from './batch.ts'
import { blockCosts, planBlocks, type DecodingBlocks } from './decoding-blocks.ts'
import type { Feed, Session } from './engine/engine.ts'
import { GspoError } from './errors.ts'
import type { ModelConfig } from './models/model-config.ts'
import { KvCache } from './kv-cache.ts'
import { LEVELS_INPUT, stepMaskName } from './models/decode-graph.ts'
import { CHUNK_TOKENS } from './models/delta-rule.ts'
import { LINEAR_INPUTS } from './models/training-graph.ts'
import { gatherBlocks, gatherInto, RecurrentStates } from './recurrent-states.ts'
import type { Decoding, DecodingRoom, PartSums } from './policy-types.ts'

/** What decoding needs from its policy. */
export interface DecodingHost {
  readonly config: ModelConfig
  readonly session: Session
  /** Runs the graph of probabilities; compiled when first asked for. */
  probabilitySession(): Promise<Session>
  /** The same for sums over the vocabulary; undefined where it does not divide. */
  partSumsSession(): Promise<Session | undefined>
  /** The adapter's matrices by name. */
  readonly adapter: Readonly<Record<string, Feed>>
  /** Rotary tables for at least so many positions. */
  ropeTables(positions: number): { cos: Feed; sin: Feed }
}

/** Runs all prompts, padded on the left to one length, and returns a decoding at their end. */
export async function startDecoding(
  host: DecodingHost,
  prompts: readonly Int32Array[],
  room: DecodingRoom = { rows: 0, tokens: 0 },
): Promise<Decoding> {
  if (prompts.length === 0 || prompts.some((prompt) => prompt.length === 0))
    throw new GspoError('BAD_BATCH', 'decoding needs at least one prompt, each of at least one token')
  const decoding = new CachedDecoding(host, prompts, room)
  await decoding.prefill(prompts)
  return decoding
}

function inverseOf(temperature: number): Feed {
  if (!(temperature > 0))
    throw new GspoError('BAD_OPTION', `temperature is ${temperature}; it must be above 0`)
  return { dims: [], values: Float32Array.of(1 / temperature) }
}

class CachedDecoding implements Decoding {
  logits = new Float32Array(0)
  private readonly host: DecodingHost
  /** For each prompt: padding on its left, in cache places. */
  private readonly padding: readonly number[]
  /** For each row: its prompt. */
  private promptOf: readonly number[]
  /** How rows lie in the engine's; some are there twice. */
  private blocks: DecodingBlocks
  /** What layers of linear attention keep; empty without. */
  private states: RecurrentStates
  private readonly cache: KvCache
  /** Of every run; the adapter's hundred matrices stay in it. */
  private readonly feeds: Record<string, Feed>
  private chances = new Float32Array(0)
  private isClosed = false

  constructor(host: DecodingHost, prompts: readonly Int32Array[], room: DecodingRoom) {
    this.host = host
    this.feeds = { ...host.adapter }
    const longest = Math.max(...prompts.map((prompt) => prompt.length))
    this.padding = prompts.map((prompt) => longest - prompt.length)
    this.promptOf = prompts.map((_, prompt) => prompt)
    this.blocks = { members: 1, prompts: this.promptOf, rows: this.promptOf }
    this.cache = new KvCache(host.config, prompts.length, room)
    this.states = new RecurrentStates(host.config, prompts.length)
  }

  get rows(): number {
    return this.promptOf.length
  }

  async prefill(prompts: readonly Int32Array[]): Promise<void> {
    const length = Math.max(...prompts.map((prompt) => prompt.length))
    const ids = new Int32Array(this.rows * length)
    for (const [row, prompt] of prompts.entries()) ids.set(prompt, (row + 1) * length - prompt.length)
    // Linear attention takes a chunk at a time.
    const most = this.host.config.linear === null ? length : CHUNK_TOKENS
    for (let start = 0; start < length; start += most) {
      const queries = Math.min(most, length - start)
      const part = new Int32Array(this.rows * queries)
      for (let row = 0; row < this.rows; row++)
        part.set(ids.subarray(row * length + start, row * length + start + queries), row * queries)
      await this.run(part, queries)
    }
    this.cache.endPrompts()
  }

  async probabilities(temperature: number): Promise<Float32Array> {
    this.checkOpen()
    const dims = [this.rows, this.host.config.vocabSize]
    if (this.chances.length !== this.logits.length) this.chances = new Float32Array(this.logits.length)
    const session = await this.host.probabilitySession()
    await session.run(
      {
        logits: { dims, values: this.logits },
        inverse_temperature: inverseOf(temperature),
      },
      { probabilities: { dims, values: this.chances } },
    )
    return this.chances
  }

  async partSums(temperature: number): Promise<PartSums | undefined> {
    this.checkOpen()
    const session = await this.host.partSumsSession()
    if (session === undefined) return undefined
    const { largest, sums } = await session.run({
      logits: { dims: [this.rows, this.host.config.vocabSize], values: this.logits },
      inverse_temperature: inverseOf(temperature),
    })
    if (!(largest?.values instanceof Float32Array && sums?.values instanceof Float32Array))
      throw new GspoError('ENGINE_FAILED', 'the sums over the vocabulary are no floats')
    return { largest: largest.values, sums: sums.values }
  }

  async step(tokens: Int32Array): Promise<void> {
    if (tokens.length !== this.rows)
      throw new GspoError('BAD_BATCH', `step got ${tokens.length} tokens for ${this.rows} rows`)
    await this.run(tokens, 1)
  }

  select(rows: readonly number[]): void {
    this.checkOpen()
    if (rows.some((row) => !Number.isInteger(row) || row < 0 || row >= this.rows))
      throw new GspoError('BAD_BATCH', `select of rows ${rows.join(', ')} out of ${this.rows}`)
    const { config } = this.host
    const places = this.firstPlaces()
    this.promptOf = rows.map((row) => this.promptOf[row] ?? 0)
    this.blocks = planBlocks(this.promptOf, blockCosts(config, this.cache.extent.promptFilled))
    const moved = this.blocks.rows.map((row) => places[rows[row] ?? 0] ?? 0)
    this.cache.select(moved, this.blocks)
    this.states = this.states.select(moved)
    this.logits = gatherBlocks(this.logits, rows, config.vocabSize)
  }

  close(): void {
    this.isClosed = true
    this.cache.clear()
  }

  /** Runs `queries` new tokens of each row: ids [rows, queries]. */
  private async run(ids: Int32Array, queries: number): Promise<void> {
    this.checkOpen()
    const { config, session } = this.host
    const { promptFilled, filled, promptPlaces, places } = this.cache.extent
    const end = promptFilled + filled + queries
    if (end > config.maxPositions)
      throw new GspoError('BAD_BATCH', `${end} tokens; the model takes ${config.maxPositions} at most`)
    const { cos, sin } = this.host.ropeTables(end)
    const { feeds } = this
    const { members, prompts, rows: rowOf } = this.blocks
    const slots = rowOf.length
    const placed = new Int32Array(slots * queries)
    gatherInto(placed, ids, rowOf, queries)
    Object.assign(feeds, this.cache.current, this.states.current(), {
      ids: { dims: [slots, queries], values: placed },
      positions: { dims: [slots * queries, 1], values: this.positions(queries) },
      last_rows: {
        dims: [this.rows],
        values: Int32Array.from(this.firstPlaces(), (place) => (place + 1) * queries - 1),
      },
      cos,
      sin,
    })
    for (const window of new Set(config.windows))
      feeds[stepMaskName(window)] = {
        dims: [prompts.length, 1, members, 1, queries, promptPlaces + places + queries],
        values: this.mask(queries, window),
      }
    if (config.linear !== null) {
      feeds[LINEAR_INPUTS.isToken] = { dims: [slots * queries, 1], values: this.isToken(queries) }
      feeds[LEVELS_INPUT] = levelsFeed(queries)
    }
    if (this.logits.length !== this.rows * config.vocabSize)
      this.logits = new Float32Array(this.rows * config.vocabSize)
    await session.run(feeds, {
      logits: { dims: [this.rows, config.vocabSize], values: this.logits },
      cache: this.cache.fresh(queries),
      ...this.states.next(),
    })
    this.states.advance()
    this.cache.append(queries)
  }

  /** Where each row lies first. */
  private firstPlaces(): number[] {
    const places = new Array<number>(this.rows).fill(-1)
    for (const [place, row] of this.blocks.rows.entries()) if (places[row] === -1) places[row] = place
    return places
  }

  /** Padding of the row in each place. */
  private paddings(): number[] {
    return this.blocks.rows.map((row) => this.padding[this.promptOf[row] ?? 0] ?? 0)
  }

  private positions(queries: number): Int32Array {
    const { promptFilled, filled } = this.cache.extent
    const positions = new Int32Array(this.blocks.rows.length * queries)
    for (const [place, padding] of this.paddings().entries())
      for (let i = 0; i < queries; i++)
        positions[place * queries + i] = Math.max(promptFilled + filled + i - padding, 0)
    return positions
  }

  /** [places, queries]: 0 at a prompt's padding. */
  private isToken(queries: number): Float32Array {
    const { promptFilled, filled } = this.cache.extent
    const isToken = new Float32Array(this.blocks.rows.length * queries)
    for (const [place, padding] of this.paddings().entries())
      for (let i = 0; i < queries; i++)
        isToken[place * queries + i] = promptFilled + filled + i < padding ? 0 : 1
    return isToken
  }

  /** [places, queries, prompt places + places + queries]: the row's tokens before, and new ones up to the query. */
  private mask(queries: number, window: number | null): Float32Array {
    const { promptFilled, promptPlaces, filled, places } = this.cache.extent
    const known = promptPlaces + places
    const seen = known + queries
    const before = promptFilled + filled
    const mask = new Float32Array(this.blocks.rows.length * queries * seen).fill(MASKED)
    for (const [row, padding] of this.paddings().entries())
      for (let query = 0; query < queries; query++) {
        const at = (row * queries + query) * seen
        const first = Math.max(padding, window === null ? 0 : before + query - window + 1)
        const show = (start: number, from: number, count: number): void => {
          const visible = Math.max(first - from, 0)
          if (visible < count) mask.fill(0, at + start + visible, at + start + count)
        }
        show(0, 0, promptFilled)
        show(promptPlaces, promptFilled, filled)
        show(known, before, query + 1)
      }
    return mask
  }

  private checkOpen(): void {
    if (this.isClosed) throw new GspoError('CLOSED', 'this decoding is closed')
  }
}
