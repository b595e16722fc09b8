/**
 * Finds connections that died without a word, as those do whose NAT or firewall has forgotten them, or whose other end
 * lost its power: TCP itself gives one up after a quarter of an hour. Until then nobody would dial anew, and streams
 * would be opened on it. A peer that is merely slow keeps its connections.
 */
import type { Connection, Libp2p } from '@libp2p/interface'
import { LIFE_CHECK_MS, LIFE_TIMEOUT_MS } from './defaults.ts'
import type { RingLogger } from '../types.ts'

const PING_PROTOCOL = '/ipfs/ping/1.0.0'

/** What the check works with. */
export interface LifeCheckOptions {
  readonly node: Libp2p
  /** a peer with a control channel that says nothing for this long is asked, in ms */
  readonly silentMs: number
  /** when the peer was last heard on its control channel, by `performance.now`; null without a channel */
  readonly heardAt: (peer: string) => number | null
  readonly logger: RingLogger
}

/** Asks whether the other end is there, over each connection that is in doubt, and ends those that bring no answer. */
export class LifeCheck {
  readonly #o: LifeCheckOptions
  /** when each connection was asked last, or seen first */
  readonly #askedAt = new WeakMap<Connection, number>()

  constructor(options: LifeCheckOptions) {
    this.#o = options
  }

  /** Asks where it is due; call it often. */
  look(): void {
    const now = performance.now()
    const perPeer = Map.groupBy(this.#o.node.getConnections(), ({ remotePeer }) => remotePeer.toString())
    for (const [peer, connections] of perPeer) {
      const heardAt = this.#o.heardAt(peer)
      const isSilent = heardAt !== null && now - heardAt > this.#o.silentMs
      // Of several connections the channel proves one alive, and streams may be opened on the others.
      const isProven = heardAt !== null && !isSilent && connections.length === 1
      for (const connection of connections) {
        const since = now - this.#lastAsked(connection, now)
        const due = isSilent ? this.#o.silentMs : LIFE_CHECK_MS
        if (!isProven && since >= due && connection.status === 'open') void this.#ask(connection, now)
      }
    }
  }

  #lastAsked(connection: Connection, now: number): number {
    const at = this.#askedAt.get(connection)
    if (at === undefined) this.#askedAt.set(connection, now)
    return at ?? now
  }

  /** Any answer will do, a refusal too. */
  async #ask(connection: Connection, now: number): Promise<void> {
    this.#askedAt.set(connection, now)
    const patience = Math.max(this.#o.silentMs, LIFE_TIMEOUT_MS)
    const signal = AbortSignal.timeout(patience)
    try {
      const stream = await connection.newStream(PING_PROTOCOL, { signal, runOnLimitedConnection: true })
      stream.abort(new Error('answered'))
    } catch (cause) {
      if (!signal.aborted || connection.status !== 'open') return
      const peer = connection.remotePeer.toString()
      this.#o.logger.info({ peer, ms: patience }, 'a connection brings no answer and is ended')
      connection.abort(new Error(`no answer within ${patience} ms`, { cause }))
    } finally {
      this.#askedAt.set(connection, performance.now())
    }
  }
}
