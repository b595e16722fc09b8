/** Brings this node's state to the ring's: fetches it, verified, and hands it to its owner. */
import { toRingError, type RingError } from '../errors.ts'
import type { RingLogger, StateProvider } from '../types.ts'
import type { StateFetcher } from './fetch.ts'
import type { Mark } from '../view/messages.ts'
import type { WantedState } from './partial.ts'

/** One fetch at a time, as its only caller awaits it. */
export class StateSync {
  readonly #fetcher: StateFetcher
  readonly #state: StateProvider
  readonly #logger: RingLogger
  readonly #onFailed: (error: RingError) => void
  fetched = 0

  constructor(
    fetcher: StateFetcher,
    state: StateProvider,
    logger: RingLogger,
    onFailed: (error: RingError) => void,
  ) {
    this.#fetcher = fetcher
    this.#state = state
    this.#logger = logger
    this.#onFailed = onFailed
  }

  /** Fetches and adopts. False when that did not work now; throws the signal's reason. */
  async run(wanted: WantedState, sources: readonly string[], signal?: AbortSignal): Promise<boolean> {
    const { round, hash } = wanted
    this.#logger.info({ round, from: this.#state.current().round, sources: sources.length }, 'fetching state')
    try {
      const bytes = await this.#fetcher.fetch(wanted, sources, signal ?? new AbortController().signal)
      await this.#state.adopt(bytes, { round, hash: new Uint8Array(Buffer.from(hash, 'hex')) })
      this.fetched += 1
      return true
    } catch (thrown) {
      signal?.throwIfAborted()
      this.#onFailed(toRingError(thrown, 'OUT_OF_SYNC', 'state sync failed'))
      return false
    }
  }
}

/** The state of a node, named by its round and hash. */
export function markOf(state: StateProvider): Mark {
  const { round, hash } = state.current()
  return { round, hash: Buffer.from(hash).toString('hex') }
}
