/**
 * Keeps a place (a reservation of circuit relay v2) at relays, so that peers which cannot dial this node come through
 * them. libp2p does not ask a relay again that was away once, so who has a place is watched here.
 */
import { multiaddr } from '@multiformats/multiaddr'
import type { Libp2p, PeerId } from '@libp2p/interface'
import type { TransportManager } from '@libp2p/interface-internal'
import { RELAY_PLACES, RELAY_RETRY_MAX_MS, RELAY_RETRY_MIN_MS } from '../net/defaults.ts'
import type { RingLogger } from '../types.ts'

const HOP_PROTOCOL = '/libp2p/circuit/relay/0.2.0/hop'

/** What the keeper works with. */
export interface RelayKeeperOptions {
  readonly node: Libp2p
  readonly transports: TransportManager
  /** ids of the relays that its operator has named: they come first, and have a place beside others */
  readonly named: readonly string[]
  readonly logger: RingLogger
}

interface Attempt {
  nextAt: number
  waitMs: number
  busy: boolean
}

/** Call `keep` often; it does something only when a place is missing and a relay is at hand. */
export class RelayKeeper {
  readonly #o: RelayKeeperOptions
  readonly #attempts = new Map<string, Attempt>()

  constructor(options: RelayKeeperOptions) {
    this.#o = options
  }

  /** Ids of the relays that hold a place for this node now. */
  get places(): Set<string> {
    const relays = this.#o.node
      .getMultiaddrs()
      .map((address) => address.getComponents())
      .filter((parts) => parts.some(({ name }) => name === 'p2p-circuit'))
      .map((parts) => parts.find(({ name }) => name === 'p2p')?.value)
    return new Set(relays.filter((relay) => relay !== undefined))
  }

  /** Takes places at connected relays until there are enough. */
  async keep(): Promise<void> {
    const { node } = this.#o
    const places = this.places
    const isNamed = (peer: PeerId): boolean => this.#o.named.includes(peer.toString())
    const connected = node.getPeers()
    // Anybody can call itself a relay and be there first: that must not keep this node from those it was told of.
    const wanted = [...connected.filter(isNamed), ...connected.filter((peer) => !isNamed(peer))]
    const now = performance.now()
    for (const peer of wanted) {
      const name = peer.toString()
      if (this.places.size >= RELAY_PLACES && !isNamed(peer)) break
      const attempt = this.#attempts.get(name)
      if (places.has(name) || attempt?.busy === true || now < (attempt?.nextAt ?? 0)) continue
      if (!(await this.#isRelay(peer))) continue
      await this.#take(peer, attempt?.waitMs ?? RELAY_RETRY_MIN_MS)
    }
    for (const [name, { nextAt, busy }] of this.#attempts) {
      if (!busy && now - nextAt > RELAY_RETRY_MAX_MS) this.#attempts.delete(name)
    }
  }

  async #isRelay(peer: PeerId): Promise<boolean> {
    try {
      return (await this.#o.node.peerStore.get(peer)).protocols.includes(HOP_PROTOCOL)
    } catch {
      // Not identified yet; asked again at the next call.
      return false
    }
  }

  async #take(peer: PeerId, waitMs: number): Promise<void> {
    const { node, transports, logger } = this.#o
    const direct = node.getConnections(peer).find(({ limits }) => limits === undefined)
    if (direct === undefined) return
    const attempt: Attempt = { nextAt: 0, waitMs, busy: true }
    this.#attempts.set(peer.toString(), attempt)
    const relay = direct.remoteAddr.toString().replace(/\/p2p\/[^/]+$/, '')
    try {
      await transports.listen([multiaddr(`${relay}/p2p/${peer.toString()}/p2p-circuit`)])
      attempt.waitMs = RELAY_RETRY_MIN_MS
      logger.info({ relay: peer.toString() }, 'a relay holds a place for this node')
    } catch (cause) {
      attempt.waitMs = Math.min(RELAY_RETRY_MAX_MS, waitMs * 2)
      logger.debug({ err: cause, relay: peer.toString() }, 'no place at this relay')
    } finally {
      attempt.busy = false
      attempt.nextAt = performance.now() + attempt.waitMs
    }
  }
}
