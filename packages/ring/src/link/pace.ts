/**
 * How fast a link is, seen by its receiver: how long the rest of a large frame takes to arrive once its beginning is
 * here. A sender writes a frame at once, so this is the path's rate even while the ring as a whole goes no faster than
 * its slowest link. Pure: the caller brings the time.
 */
import { middle } from '../middle.ts'

/** Less than this may lie complete in a buffer of the kernel, and then tells nothing of the path. */
const LEAST_BYTES = 128 * 1024

/** The median of so many frames counts: a receiver that was busy finds frames complete that were long on their way. */
const KEPT_FRAMES = 32
const LEAST_FRAMES = 4

/** Frames seen since the last question. */
export class Pace {
  #begun: { readonly at: number; readonly bytes: number } | null = null
  #rates: number[] = []

  /** A part of a frame is here; only the first call for a frame counts. */
  partial(at: number, bytes: number): void {
    this.#begun ??= { at, bytes }
  }

  /** The frame is complete. */
  complete(at: number, bytes: number): void {
    const begun = this.#begun
    this.#begun = null
    if (begun === null || bytes - begun.bytes < LEAST_BYTES || at <= begun.at) return
    this.#rates.push((bytes - begun.bytes) / (at - begun.at))
    if (this.#rates.length > KEPT_FRAMES) this.#rates.shift()
  }

  /** Bytes per ms, null when too few frames tell; begins anew. */
  take(): number | null {
    const rates = this.#rates
    this.#rates = []
    return rates.length < LEAST_FRAMES ? null : (middle(rates) ?? null)
  }
}
