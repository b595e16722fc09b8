/**
 * Measures the round-trip time to each peer of the job and tells the others when it has changed, a small message at
 * most every few seconds. What they tell goes into one table, from which the proposer of a view orders the ring.
 */
import type { PathsMessage } from '../net/peer-messages.ts'
import type { PathTable } from './order.ts'
import { differs, MAX_ROW, Paths } from './path-table.ts'

/** A peer is measured again after this long; three times as it comes. */
const MEASURE_EVERY_MS = 30_000

/** Whoever is new is measured soon: the first view after genesis may profit. */
const FIRST_MEASURES = 3
const FIRST_EVERY_MS = 1_000

/** The least of so many measurements counts: what is above it is queueing. */
const KEPT_SAMPLES = 5

/** A row is told at most this often. */
const TELL_EVERY_MS = 5_000

/** One measurement is given up after this long. */
const MEASURE_TIMEOUT_MS = 5_000

/** What the meter works with. */
export interface PathMeterOptions {
  readonly self: string
  readonly peers: () => readonly string[]
  /** round-trip time in ms; rejects when the peer does not answer before the signal aborts */
  readonly measure: (peer: string, signal: AbortSignal) => Promise<number>
  readonly tell: (peer: string, message: PathsMessage) => void
  readonly onChanged: (paths: PathTable) => void
}

interface Samples {
  readonly kept: number[]
  taken: number
  nextAt: number
  busy: boolean
}

/** Call `look` about once a second. */
export class PathMeter {
  readonly #o: PathMeterOptions
  readonly #paths = new Paths()
  readonly #samples = new Map<string, Samples>()
  readonly #told = new Set<string>()
  #row: ReadonlyMap<string, number> = new Map()
  #toldAt = -Infinity

  constructor(options: PathMeterOptions) {
    this.#o = options
  }

  /** Measures whoever is due, forgets whoever is gone, tells what has changed. */
  look(): void {
    const now = performance.now()
    const peers = new Set(this.#o.peers().slice(0, MAX_ROW))
    for (const peer of this.#samples.keys()) if (!peers.has(peer)) this.#samples.delete(peer)
    for (const peer of this.#told) if (!peers.has(peer)) this.#told.delete(peer)
    for (const peer of peers) {
      const samples = this.#samples.get(peer) ?? { kept: [], taken: 0, nextAt: now, busy: false }
      this.#samples.set(peer, samples)
      if (!samples.busy && now >= samples.nextAt) void this.#measure(peer, samples)
    }
    if (now - this.#toldAt >= TELL_EVERY_MS) this.#tell(now)
  }

  /** A peer has told its row. */
  onRow(peer: string, row: PathsMessage['row']): void {
    if (this.#paths.note(peer, row)) this.#changed()
  }

  async #measure(peer: string, samples: Samples): Promise<void> {
    samples.busy = true
    try {
      const ms = await this.#o.measure(peer, AbortSignal.timeout(MEASURE_TIMEOUT_MS))
      samples.kept.push(ms)
      if (samples.kept.length > KEPT_SAMPLES) samples.kept.shift()
    } catch {
      // No answer is no measurement; whether the peer lives is decided elsewhere.
    }
    samples.taken += 1
    samples.nextAt = performance.now() + (samples.taken < FIRST_MEASURES ? FIRST_EVERY_MS : MEASURE_EVERY_MS)
    samples.busy = false
  }

  /** To everybody when the row has changed, else only to whoever has not heard it. */
  #tell(now: number): void {
    const measured = [...this.#samples].filter(([, { kept }]) => kept.length > 0)
    const row = new Map(measured.map(([peer, { kept }]) => [peer, Math.min(...kept)]))
    if (row.size === 0) return
    if (differs(this.#row, row)) {
      this.#row = row
      this.#told.clear()
      if (this.#paths.note(this.#o.self, [...row])) this.#changed()
    }
    const message: PathsMessage = { t: 'paths', row: [...this.#row] }
    for (const peer of this.#samples.keys()) {
      if (this.#told.has(peer)) continue
      this.#told.add(peer)
      this.#toldAt = now
      this.#o.tell(peer, message)
    }
  }

  #changed(): void {
    // A table of its own: whoever has the last one may go on computing with it.
    this.#o.onChanged(new Map(this.#paths.table))
  }
}
