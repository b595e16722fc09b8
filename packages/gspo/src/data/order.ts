/**
 * The order in which a data set is read: every epoch is a fresh shuffle, a pure function of (seed, epoch), so a run's
 * place in its data is one number, the global position.
 */
import { permutation, STREAM } from '../sampling/philox.ts'

/** Maps global positions (0, 1, 2, ... over all epochs) to rows of a data set. */
export interface DataOrder {
  /** The row at a position; every row is visited once an epoch. */
  rowAt(position: number): number
}

/** The order of a data set of `size` rows under `seed`; unshuffled when `shuffle` is false. */
export function createDataOrder(size: number, seed: number, shuffle: boolean): DataOrder {
  let cachedEpoch = -1
  let cachedOrder: Int32Array = new Int32Array(0)
  return {
    rowAt(position: number): number {
      const epoch = Math.floor(position / size)
      const place = position % size
      if (!shuffle) return place
      if (epoch !== cachedEpoch) {
        cachedOrder = permutation(size, seed, STREAM.shuffle, epoch)
        cachedEpoch = epoch
      }
      return cachedOrder[place] ?? 0
    },
  }
}
