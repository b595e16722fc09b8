/** Whom to dial and when: every known address list is tried until somebody is connected there, with a growing wait. */
import { multiaddr } from '@multiformats/multiaddr'
import { peerIdFromString } from '@libp2p/peer-id'
import type { Libp2p } from '@libp2p/interface'
import { DIAL_TIMEOUT_MS, REDIAL_MAX_MS, REDIAL_MIN_MS } from '../defaults.ts'
import { HEARSAY_REDIAL_MAX_MS } from './defaults.ts'
import type { RingLogger } from '../types.ts'
import type { NetCounters, PeerSource } from './net-counters.ts'

/** What the targets work with. */
export interface DialOptions {
  readonly node: Libp2p
  readonly counters: NetCounters
  readonly logger: RingLogger
  /** a dial reached this peer */
  readonly onReached: (peer: string, source: PeerSource) => void
  /** in a private network a failed handshake most likely means another key; said once per target */
  readonly isPrivate: boolean
}

interface Target {
  readonly addresses: () => readonly string[]
  readonly source: PeerSource
  /** who lives there: known from the start, or who answered last time */
  peer: string | null
  nextAt: number
  waitMs: number
  busy: boolean
  warned: boolean
  /** it was connected once, from either side, so somebody does live there */
  wasMet: boolean
}

/** A list that is looked through often; dials run side by side, one per target. */
export class DialTargets {
  readonly #o: DialOptions
  readonly #targets = new Map<string, Target>()

  constructor(options: DialOptions) {
    this.#o = options
  }

  /** Adds a target under a name; one that is there already stays as it is. */
  add(
    name: string,
    addresses: () => readonly string[],
    { source, peer, delayMs }: { source: PeerSource; peer: string | null; delayMs: number },
  ): void {
    if (this.#targets.has(name)) return
    this.#targets.set(name, {
      addresses,
      source,
      peer,
      nextAt: performance.now() + delayMs,
      waitMs: REDIAL_MIN_MS,
      busy: false,
      warned: false,
      wasMet: false,
    })
  }

  /** The next look at this target dials at once: its connection was lost, or its addresses are new. */
  hurry(name: string): void {
    const target = this.#targets.get(name)
    if (target === undefined) return
    target.nextAt = 0
    target.wasMet = true
  }

  /** Starts every dial that is due. */
  dialDue(): void {
    const now = performance.now()
    for (const target of this.#targets.values()) {
      if (!target.busy && now >= target.nextAt && !this.#isConnected(target)) void this.#dial(target)
    }
  }

  #isConnected({ peer }: Target): boolean {
    return peer !== null && this.#o.node.getConnections(peerIdFromString(peer)).length > 0
  }

  async #dial(target: Target): Promise<void> {
    const { node, counters } = this.#o
    const addresses = target.addresses().map((address) => multiaddr(address))
    target.busy = true
    try {
      if (addresses.length > 0) {
        counters.dials += 1
        const connection = await node.dial(addresses, { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS) })
        target.peer = connection.remotePeer.toString()
        target.warned = false
        target.wasMet = true
        this.#o.onReached(target.peer, target.source)
      }
      target.waitMs = REDIAL_MIN_MS * 4
    } catch (cause) {
      const isHearsay = target.source === 'peer' && !target.wasMet
      target.waitMs = Math.min(isHearsay ? HEARSAY_REDIAL_MAX_MS : REDIAL_MAX_MS, target.waitMs * 2)
      this.#onFailed(target, cause)
    } finally {
      target.busy = false
      target.nextAt = performance.now() + target.waitMs
    }
  }

  /** At debug, as absent peers are normal; what an operator must mend is said once, as a warning. */
  #onFailed(target: Target, cause: unknown): void {
    const { counters, logger, isPrivate } = this.#o
    const why = counters.failed(cause)
    const addresses = target.addresses()
    if (target.warned || (why !== 'handshake' && why !== 'wrong_peer')) {
      logger.debug({ err: cause, why, addresses }, 'dial failed')
      return
    }
    target.warned = true
    if (why === 'wrong_peer') {
      logger.warn({ addresses, why }, 'another peer answers at this address: correct the /p2p/ part of it')
      return
    }
    const advice = isPrivate
      ? 'no handshake with the peer at this address: is it in this private network (same swarm key)?'
      : 'no handshake with the peer at this address: is it a gym node, and not one of a private network (swarm key)?'
    logger.warn({ addresses, why }, advice)
  }
}
