/**
 * Addresses under which peers of the job were really met, kept across restarts: the first thing a node tries, so that
 * it finds its ring again when every bootstrap peer is gone. Bounded, expiring, and pure: time comes in, bytes go out.
 */
import { z } from 'zod'

/** What the book may hold. */
export interface BookLimits {
  readonly peers: number
  readonly addressesPerPeer: number
  /** ms after which a peer that was not met again is forgotten */
  readonly maxAgeMs: number
  /** peers that make no room for others, as members of the ring: strangers that come and go are newer */
  readonly isKept?: (peer: string) => boolean
}

/** A peer as it was last met. `seen` is milliseconds since 1970. */
export interface BookEntry {
  readonly peer: string
  readonly addresses: readonly string[]
  readonly seen: number
}

const bookSchema = z.strictObject({
  version: z.literal(1),
  job: z.string().max(512),
  peers: z.array(
    z.strictObject({
      peer: z.string().min(1).max(128),
      addresses: z.array(z.string().min(1).max(512)),
      seen: z.number().int().min(0),
    }),
  ),
})

/** Known good addresses, newest first. */
export class PeerBook {
  readonly #job: string
  readonly #limits: BookLimits
  readonly #entries = new Map<string, BookEntry>()

  constructor(job: string, limits: BookLimits) {
    this.#job = job
    this.#limits = limits
  }

  /** Reads a stored book; a book of another job counts as empty. Throws an Error that names what is wrong with it. */
  static decode(bytes: Uint8Array, job: string, limits: BookLimits, now: number): PeerBook {
    const stored = bookSchema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)))
    const book = new PeerBook(job, limits)
    if (stored.job !== job) return book
    for (const { peer, addresses, seen } of [...stored.peers].sort((a, b) => a.seen - b.seen)) {
      // A clock that was wrong must not keep an entry for ever.
      book.note(peer, addresses, Math.min(seen, now))
    }
    book.#expire(now)
    return book
  }

  /** The book as bytes, one peer a line: an operator may read it. */
  encode(now: number): Uint8Array {
    this.#expire(now)
    const lines = this.list().map((entry) => `  ${JSON.stringify(entry)}`)
    const head = `{ "version": 1, "job": ${JSON.stringify(this.#job)}, "peers": [`
    return new TextEncoder().encode(`${head}\n${lines.join(',\n')}\n] }\n`)
  }

  /** Remembers where a peer was met; of those not to be kept the one met longest ago makes room. Returns whether anything new was learned. */
  note(peer: string, addresses: readonly string[], now: number): boolean {
    if (addresses.length === 0) return false
    const kept = addresses.slice(0, this.#limits.addressesPerPeer)
    const before = this.#entries.get(peer)
    this.#entries.delete(peer)
    this.#entries.set(peer, { peer, addresses: kept, seen: now })
    if (this.#entries.size > this.#limits.peers) {
      const { isKept } = this.#limits
      const rank = (entry: BookEntry): number => (isKept?.(entry.peer) === true ? 1 : 0)
      const [first] = [...this.#entries.values()].sort((a, b) => rank(a) - rank(b) || a.seen - b.seen)
      if (first !== undefined) this.#entries.delete(first.peer)
    }
    return before?.addresses.join() !== kept.join()
  }

  /** All entries, the one met last first. */
  list(): BookEntry[] {
    return [...this.#entries.values()].sort((a, b) => b.seen - a.seen)
  }

  #expire(now: number): void {
    for (const [peer, { seen }] of this.#entries) {
      if (now - seen > this.#limits.maxAgeMs) this.#entries.delete(peer)
    }
  }
}
