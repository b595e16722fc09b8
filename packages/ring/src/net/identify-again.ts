/**
 * Asks connected peers what they are once more: libp2p asks once, and a machine under load may miss the answer. Who has
 * not said what it speaks is unknown to the hash table and no relay. One that never answers holds up nobody else.
 */
import type { Connection } from '@libp2p/interface'
import { IDENTIFY_AGAIN_MS } from './defaults.ts'
import type { RingLogger } from '../types.ts'

/** What the asking works with. */
export interface IdentifyOptions {
  readonly connections: () => readonly Connection[]
  /** whether the peer at the other end has said what it speaks */
  readonly isKnown: (connection: Connection) => Promise<boolean>
  /** asks; rejects when there is no answer in time */
  readonly identify: (connection: Connection) => Promise<void>
  readonly logger: RingLogger
}

/** Call `look` often. */
export class IdentifyAgain {
  readonly #o: IdentifyOptions
  readonly #askAt = new WeakMap<Connection, number>()

  constructor(options: IdentifyOptions) {
    this.#o = options
  }

  /** Asks everybody who is due at `now` (ms); waits for nobody. */
  look(now: number): void {
    for (const connection of this.#o.connections()) {
      const at = this.#askAt.get(connection)
      if (at === undefined) this.#askAt.set(connection, now + IDENTIFY_AGAIN_MS)
      else if (now >= at) void this.#ask(connection, now)
    }
  }

  async #ask(connection: Connection, now: number): Promise<void> {
    this.#askAt.set(connection, Infinity)
    try {
      if (!(await this.#o.isKnown(connection))) await this.#o.identify(connection)
    } catch (err) {
      this.#o.logger.debug({ err, peer: connection.remotePeer.toString() }, 'no identify')
    } finally {
      this.#askAt.set(connection, Math.max(now, performance.now()) + IDENTIFY_AGAIN_MS)
    }
  }
}
