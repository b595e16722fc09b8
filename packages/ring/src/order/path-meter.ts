/**
 * Measures the round-trip time to each peer of the job, takes what rounds show of the rates, and tells the others when
 * it has changed, a small message at most every few seconds. What they tell goes into one table, from which the proposer of a view orders the ring.
 */
import type { PathsMessage } from '../net/peer-messages.ts'
import type { PathClaim, PathTable } from './order.ts'
import { differs, MAX_BYTES_PER_MS, MAX_ROW, Paths } from './path-table.ts'

/** A peer is measured again after this long; three times as it comes. */
const MEASURE_EVERY_MS = 30_000

/** Whoever is new is measured soon: the first view after genesis may profit. */
const FIRST_MEASURES = 3
const FIRST_EVERY_MS = 1_000

/** The least of so many times counts, and the highest of so many rates: what is worse is queueing, or other work. */
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
  /** whether a peer is in the view that this node is in, or is this node */
  readonly isMember: (peer: string) => boolean
}

interface Samples {
  readonly kept: number[]
  readonly rates: number[]
  taken: number
  nextAt: number
  busy: boolean
}

/** Call `look` about once a second. */
export class PathMeter {
  readonly #o: PathMeterOptions
  readonly #paths: Paths
  readonly #samples = new Map<string, Samples>()
  readonly #told = new Set<string>()
  #row: ReadonlyMap<string, PathClaim> = new Map()
  #toldAt = -Infinity

  constructor(options: PathMeterOptions) {
    this.#o = options
    this.#paths = new Paths(options.isMember)
  }

  /** Measures whoever is due, forgets whoever is gone, tells what has changed. */
  look(): void {
    const now = performance.now()
    const peers = new Set(this.#o.peers().slice(0, MAX_ROW))
    for (const peer of this.#samples.keys()) if (!peers.has(peer)) this.#samples.delete(peer)
    for (const peer of this.#told) if (!peers.has(peer)) this.#told.delete(peer)
    for (const peer of peers) {
      const samples = this.#samplesOf(peer, now)
      if (!samples.busy && now >= samples.nextAt) void this.#measure(peer, samples)
    }
    if (now - this.#toldAt >= TELL_EVERY_MS) this.#tell(now)
  }

  /** What a round showed of the path from a peer, in bytes per ms. */
  onRate(peer: string, bytesPerMs: number): void {
    const { rates } = this.#samplesOf(peer, performance.now())
    rates.push(Math.min(MAX_BYTES_PER_MS, bytesPerMs))
    if (rates.length > KEPT_SAMPLES) rates.shift()
  }

  /** A peer has told its row. */
  onRow(peer: string, row: PathsMessage['row']): void {
    if (this.#paths.note(peer, row)) this.#changed()
  }

  #samplesOf(peer: string, now: number): Samples {
    const known = this.#samples.get(peer)
    if (known !== undefined) return known
    const samples = { kept: [], rates: [], taken: 0, nextAt: now, busy: false }
    this.#samples.set(peer, samples)
    return samples
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
    const row = new Map(
      measured.map(([peer, { kept, rates }]) => {
        const bytesPerMs = rates.length === 0 ? null : Math.max(...rates)
        return [peer, { ms: Math.min(...kept), bytesPerMs }]
      }),
    )
    if (row.size === 0) return
    if (differs(this.#row, row)) {
      this.#row = row
      this.#told.clear()
      if (this.#paths.note(this.#o.self, entriesOf(row))) this.#changed()
    }
    const message: PathsMessage = { t: 'paths', row: entriesOf(this.#row) }
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

function entriesOf(row: ReadonlyMap<string, PathClaim>): PathsMessage['row'] {
  return [...row].map(([peer, { ms, bytesPerMs }]) => [peer, ms, bytesPerMs])
}
