/** What the caller of an all-reduce brings, checked and put into the words of the view protocol. Pure. */
import { RingError } from '../errors.ts'
import { encodedBytes } from '../kernels/chunk-memory.ts'
import type { Integrity, Ring, WireType } from '../types.ts'
import { maxChunkElements } from '../plan.ts'
import type { Mark } from '../view/messages.ts'
import type { Event } from '../view/state.ts'

/** How this node's numbers travel; the same on all members. */
export interface WireSettings {
  readonly wire: WireType
  readonly integrity: Integrity
  readonly chunkBytes: number
}

/**
 * The event that offers `vector` for the round after `state`. Throws RingError BAD_ARGUMENT, or OUT_OF_SYNC when the
 * round is another one.
 */
export function contributionOf(
  vector: Float32Array,
  { round, weight, commitment }: Parameters<Ring['allReduce']>[1],
  state: Mark,
  { wire, integrity, chunkBytes }: WireSettings,
): Extract<Event, { on: 'contribute' }> {
  if (!Number.isFinite(weight) || weight < 0) {
    throw new RingError('BAD_ARGUMENT', `weight is ${weight}, expected a finite number >= 0`)
  }
  if (commitment !== undefined && commitment.byteLength !== 32) {
    throw new RingError('BAD_ARGUMENT', `commitment is ${commitment.byteLength} bytes, expected 32`)
  }
  if (round !== state.round + 1) {
    throw new RingError('OUT_OF_SYNC', `round ${round} does not follow the state's round ${state.round}`)
  }
  return {
    on: 'contribute',
    bytes: encodedBytes(wire, vector.length),
    contribution: {
      round,
      length: vector.length,
      weight,
      wire: `${wire}/${integrity}/${chunkBytes}/${maxChunkElements(wire, chunkBytes)}`,
      state: state.hash,
      commitment: commitment === undefined ? null : Buffer.from(commitment).toString('hex'),
    },
  }
}
