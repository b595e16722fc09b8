/**
 * The memory of rounds of one length, used again from round to round: the kernels' own, with the arrays they work on in
 * place. Fresh memory costs the kernel more than the round does (64 MiB are 16,384 pages to clear); what is never used
 * costs nothing. Where no such memory can be had, arrays lie elsewhere and are worked on through copies.
 */
import { ChunkMath } from '../kernels/chunk-math.ts'
import { ChunkMemory, aligned } from '../kernels/chunk-memory.ts'
import { maxChunkElements } from '../plan.ts'
import type { WireType } from '../types.ts'

/** Results: one that the caller has, one of the round that runs, one that waits for its commit. */
const RESULTS = 3
/** `int8`: the last committed round's residual, and those of the running and the waiting round. */
const RESIDUALS = 3

/** For rounds of vectors of `length` in frames of up to `chunkBytes`. */
export class RoundMemory {
  readonly length: number
  readonly math: ChunkMath
  readonly results: Pool<Float32Array>
  readonly residuals: Pool<Uint16Array>
  /** memory for a caller's vector, always the same */
  readonly vector: Float32Array
  #codes = new Uint8Array(0)

  constructor(wire: WireType, length: number, chunkBytes: number) {
    const residuals = wire === 'int8' ? RESIDUALS : 0
    const memory = new ChunkMemory(
      maxChunkElements(wire, chunkBytes),
      (1 + RESULTS) * aligned(length * 4) + residuals * aligned(length * 2),
    )
    this.length = length
    this.math = new ChunkMath(wire, memory)
    this.vector = memory.lendFloats(length) ?? new Float32Array(length)
    this.results = new Pool(
      () => memory.lendFloats(length),
      () => new Float32Array(length),
    )
    this.residuals = new Pool(
      () => memory.lendHalves(length),
      () => new Uint16Array(length),
    )
  }

  /** Memory for `bytes` of finished chunks that wait to be sent; one round's at a time. */
  codes(bytes: number): Uint8Array {
    if (this.#codes.byteLength < bytes) this.#codes = new Uint8Array(bytes)
    return this.#codes
  }
}

/** Arrays of one kind and length. */
export class Pool<T extends object> {
  readonly #lend: () => T | null
  readonly #make: () => T
  readonly #free: T[] = []
  /** arrays that this pool has given */
  readonly #known = new WeakSet<T>()

  /** `lend` gives arrays until there are no more, then `make` does. */
  constructor(lend: () => T | null, make: () => T) {
    this.#lend = lend
    this.#make = make
  }

  /** An array whose content means nothing. */
  take(): T {
    const array = this.#free.pop() ?? this.#lend() ?? this.#make()
    this.#known.add(array)
    return array
  }

  /**
   * Takes an array back, once; of other pools it takes none. Its buffer is not detached, which would be safer: V8 counts
   * a detached and reattached buffer as new memory and answers with a full collection every round.
   */
  giveBack(array: T): void {
    if (this.#known.has(array) && !this.#free.includes(array)) this.#free.push(array)
  }
}
