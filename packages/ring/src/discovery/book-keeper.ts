/** Reads the peer book at start and writes it when it has changed, not too often, and once more at the end. */
import type { RingLimits } from '../defaults.ts'
import { BOOK_MAX_AGE_MS, BOOK_REFRESH_MS, BOOK_SAVE_MS } from '../net/defaults.ts'
import type { BookStore } from '../net/network-types.ts'
import type { KnownPeer } from '../net/peer-messages.ts'
import type { RingLogger } from '../types.ts'
import { PeerBook, type BookEntry, type BookLimits } from './peer-book.ts'

/** The book with its store. A book that cannot be read or written costs a warning and nothing else. */
export class BookKeeper {
  readonly #store: BookStore
  readonly #job: string
  readonly #limits: BookLimits
  readonly #logger: RingLogger
  #book: PeerBook
  #isChanged = false
  #savedAt = -Infinity
  #refreshedAt = -Infinity
  #saving: Promise<void> = Promise.resolve()

  /** `isMember`: peers of the ring, which stay in the book however many strangers come. */
  constructor(
    store: BookStore,
    job: string,
    limits: RingLimits,
    logger: RingLogger,
    isMember: (peer: string) => boolean,
  ) {
    this.#store = store
    this.#job = job
    this.#limits = {
      peers: limits.bookPeers,
      addressesPerPeer: limits.addressesPerPeer,
      maxAgeMs: BOOK_MAX_AGE_MS,
      isKept: isMember,
    }
    this.#logger = logger
    this.#book = new PeerBook(job, this.#limits)
  }

  /** The stored entries, the one met last first; none when there is no book that can be used. */
  async load(): Promise<BookEntry[]> {
    try {
      const bytes = await this.#store.load()
      if (bytes !== null) this.#book = PeerBook.decode(bytes, this.#job, this.#limits, Date.now())
    } catch (err) {
      this.#logger.warn({ err }, 'the list of known peers cannot be read; starting with an empty one')
    }
    return this.#book.list()
  }

  /** Remembers a peer that was met just now. */
  note(peer: string, addresses: readonly string[]): void {
    if (this.#book.note(peer, addresses, Date.now())) this.#isChanged = true
  }

  /** Peers that are here now were met now, however long ago they came: entries expire, and a ring may run for months. */
  refresh(here: readonly KnownPeer[]): void {
    const now = performance.now()
    if (now - this.#refreshedAt < BOOK_REFRESH_MS) return
    this.#refreshedAt = now
    for (const { peer, addresses } of here) this.#book.note(peer, addresses, Date.now())
    this.#isChanged ||= here.length > 0
  }

  /** Writes what has changed, if the last time is long enough ago. */
  saveIfDue(): void {
    if (this.#isChanged && performance.now() - this.#savedAt >= BOOK_SAVE_MS) this.#save()
  }

  /** Writes the book with the peers that are here at the end, and waits for it. */
  async close(here: readonly KnownPeer[]): Promise<void> {
    this.#refreshedAt = -Infinity
    this.refresh(here)
    if (this.#book.list().length > 0) this.#save()
    await this.#saving
  }

  #save(): void {
    this.#isChanged = false
    this.#savedAt = performance.now()
    const bytes = this.#book.encode(Date.now())
    this.#saving = this.#saving
      .then(() => this.#store.save(bytes))
      .catch((err: unknown) => this.#logger.warn({ err }, 'the list of known peers cannot be written'))
  }
}
