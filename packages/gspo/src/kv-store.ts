/**
 * Keys and values of some layers in plain typed arrays, each [blocks, kvHeads, members, places, size]: rows and places move
 * inside memory that is taken once, as new arrays every few tokens would cost page faults, and garbage collections beside
 * the engine's threads.
 */
import type { Feed } from './engine/engine.ts'

/** Sizes of a store that never change. */
export interface StoreSizes {
  /** Arrays: keys and values of each layer. */
  readonly arrays: number
  readonly kvHeads: number
  readonly headSize: number
}

/** How rows lie in a store: each block has the same number of members. */
export interface StoreShape {
  readonly blocks: number
  readonly members: number
  /** Room for tokens of each row. */
  readonly places: number
}

/** Rows of keys and values; see above. */
export class KvStore {
  /** Tokens that each row has. */
  filled = 0
  private readonly sizes: StoreSizes
  private current: StoreShape
  /** The front of each is used. */
  private readonly memory: Float32Array[]
  private front: readonly Feed[]

  /** Empty rows; `room` rows x places get memory from the start. */
  constructor(sizes: StoreSizes, shape: StoreShape, room: { rows: number; places: number }) {
    this.sizes = sizes
    this.current = shape
    const length = Math.max(this.lengthOf(shape), sizes.kvHeads * room.rows * room.places * sizes.headSize)
    this.memory = Array.from({ length: sizes.arrays }, () => new Float32Array(length))
    this.front = this.fronts()
  }

  get shape(): StoreShape {
    return this.current
  }

  /** One feed an array, [blocks, kvHeads, members, places, size]; the same objects until the shape changes. */
  feeds(): readonly Feed[] {
    return this.front
  }

  /** Moves to `shape`: row `to` of it gets what row `rows[to]` has; rows are counted block by block. */
  arrange(rows: readonly number[], shape: StoreShape): void {
    const length = this.lengthOf(shape)
    const moves = this.movesTo(rows, shape)
    const direction = safeDirection(moves)
    // One after the other, so that never two copies of all of them are alive.
    for (const [index, from] of this.memory.entries()) {
      const fits = length <= from.length && direction !== undefined
      const to = fits ? from : new Float32Array(Math.max(length, from.length))
      this.move(from, to, moves, direction === 'down')
      this.memory[index] = to
    }
    this.current = shape
    this.front = this.fronts()
  }

  /** Appends `queries` tokens to each row out of `fresh`: [arrays, blocks, kvHeads, members, queries, size]. */
  append(fresh: Float32Array | Int32Array, queries: number): void {
    const { kvHeads, headSize } = this.sizes
    const { blocks, members, places } = this.current
    const count = blocks * kvHeads * members
    const width = queries * headSize
    for (const [index, array] of this.memory.entries()) {
      const base = index * count * width
      for (let row = 0; row < count; row++) {
        const to = (row * places + this.filled) * headSize
        const from = base + row * width
        // An element loop: for the few dozen numbers of one token it is faster than subarray and set.
        if (width <= 256) for (let i = 0; i < width; i++) array[to + i] = fresh[from + i]
        else array.set(fresh.subarray(from, from + width), to)
      }
    }
    this.filled += queries
  }

  /** From and to where each row's tokens of one head move, in numbers, in the order of their places in `shape`. */
  private movesTo(rows: readonly number[], { blocks, members, places }: StoreShape): Move[] {
    const { kvHeads, headSize } = this.sizes
    const old = this.current
    const moves: Move[] = []
    for (let block = 0; block < blocks; block++)
      for (let head = 0; head < kvHeads; head++)
        for (let member = 0; member < members; member++) {
          const row = rows[block * members + member] ?? 0
          const source = (Math.floor(row / old.members) * kvHeads + head) * old.members + (row % old.members)
          const target = (block * kvHeads + head) * members + member
          moves.push({ from: source * old.places * headSize, to: target * places * headSize })
        }
    return moves
  }

  private move(from: Float32Array, to: Float32Array, moves: readonly Move[], isFromLast: boolean): void {
    const width = this.filled * this.sizes.headSize
    for (let step = 0; step < moves.length; step++) {
      const move = moves[isFromLast ? moves.length - 1 - step : step]
      if (move === undefined) continue
      if (from !== to) to.set(from.subarray(move.from, move.from + width), move.to)
      else if (move.from !== move.to) to.copyWithin(move.to, move.from, move.from + width)
    }
  }

  private fronts(): readonly Feed[] {
    const { kvHeads, headSize } = this.sizes
    const { blocks, members, places } = this.current
    const length = this.lengthOf(this.current)
    const dims = [blocks, kvHeads, members, places, headSize]
    return this.memory.map((array) => ({ dims, values: array.subarray(0, length) }))
  }

  private lengthOf({ blocks, members, places }: StoreShape): number {
    return blocks * this.sizes.kvHeads * members * places * this.sizes.headSize
  }
}

interface Move {
  readonly from: number
  readonly to: number
}

/**
 * In which order moves can run within one array so that none overwrites what another still has to read: `up` from the
 * first where each goes towards the front or stays, `down` from the last where each goes towards the back or stays;
 * undefined for neither. Targets rise and do not overlap, and no move reads more than a target's place.
 */
function safeDirection(moves: readonly Move[]): 'up' | 'down' | undefined {
  if (moves.every(({ from, to }) => from >= to)) return 'up'
  return moves.every(({ from, to }) => from <= to) ? 'down' : undefined
}
