/**
 * Whom to dial and when: every known address list is tried until somebody is connected there, with a growing wait.
 * Members of the ring go first, and what nobody here has met gets a few dials at once: a thousand made-up peers must
 * not keep this node from those that exist.
 */
import { multiaddr } from '@multiformats/multiaddr'
import { peerIdFromString } from '@libp2p/peer-id'
import type { Libp2p } from '@libp2p/interface'
import { DIAL_TIMEOUT_MS, REDIAL_MAX_MS, REDIAL_MIN_MS } from '../defaults.ts'
import {
  BOOTSTRAP_PATIENCE,
  FEW_TARGETS,
  HEARSAY_DIALS,
  HEARSAY_REDIAL_MAX_MS,
  TARGET_DIALS,
} from './defaults.ts'
import type { RingLogger } from '../types.ts'
import type { DialFailure, NetCounters, PeerSource } from './net-counters.ts'

/** What the targets work with. */
export interface DialOptions {
  readonly node: Libp2p
  readonly counters: NetCounters
  readonly logger: RingLogger
  /** a dial reached this peer at this address */
  readonly onReached: (peer: string, source: PeerSource, address: string) => void
  /** peers that this node's ring needs */
  readonly isMember: (peer: string) => boolean
  /** in a private network a failed handshake most likely means another key; said once per target */
  readonly isPrivate: boolean
}

/** What to dial in an attempt, counted from 0; none when the peer has been forgotten. */
export type DialList = (attempt: number) => readonly string[]

interface Target {
  readonly name: string
  readonly addresses: DialList
  readonly source: PeerSource
  /** who lives there: known from the start, or who answered last time */
  peer: string | null
  nextAt: number
  waitMs: number
  attempts: number
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
    addresses: DialList,
    { source, peer, delayMs }: { source: PeerSource; peer: string | null; delayMs: number },
  ): void {
    if (this.#targets.has(name)) return
    this.#targets.set(name, {
      name,
      addresses,
      source,
      peer,
      nextAt: performance.now() + delayMs,
      waitMs: REDIAL_MIN_MS,
      attempts: 0,
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

  /** Starts the dials that are due: members first, then what has failed least, a bounded number at once. */
  dialDue(): void {
    const now = performance.now()
    let [room, hearsayRoom] = [TARGET_DIALS, HEARSAY_DIALS]
    const due: Target[] = []
    for (const target of this.#targets.values()) {
      if (target.busy) {
        room -= 1
        if (isHearsay(target)) hearsayRoom -= 1
      } else if (now >= target.nextAt && !this.#isConnected(target)) due.push(target)
    }
    due.sort((a, b) => this.#rank(a) - this.#rank(b) || a.waitMs - b.waitMs || a.nextAt - b.nextAt)
    for (const target of due) {
      if (room <= 0) return
      if (isHearsay(target)) {
        if (hearsayRoom <= 0) continue
        hearsayRoom -= 1
      }
      room -= 1
      void this.#dial(target)
    }
  }

  #rank({ peer, source }: Target): number {
    return source === 'bootstrap' || this.#isMember(peer) ? 0 : 1
  }

  #isMember(peer: string | null): boolean {
    return peer !== null && this.#o.isMember(peer)
  }

  #isConnected({ peer }: Target): boolean {
    return peer !== null && this.#o.node.getConnections(peerIdFromString(peer)).length > 0
  }

  async #dial(target: Target): Promise<void> {
    const { node, counters } = this.#o
    const addresses = target.addresses(target.attempts)
    if (addresses.length === 0) {
      this.#targets.delete(target.name)
      return
    }
    target.attempts += 1
    target.busy = true
    try {
      counters.dials += 1
      const connection = await node.dial(
        addresses.map((address) => multiaddr(address)),
        { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS) },
      )
      target.peer = connection.remotePeer.toString()
      target.warned = false
      target.wasMet = true
      this.#o.onReached(target.peer, target.source, connection.remoteAddr.toString())
      target.waitMs = REDIAL_MIN_MS * 4
    } catch (cause) {
      const isUrgent = target.source === 'bootstrap' || this.#isMember(target.peer)
      const isFewAndMet = this.#targets.size <= FEW_TARGETS && !isHearsay(target)
      const most = isUrgent || isFewAndMet ? REDIAL_MAX_MS : HEARSAY_REDIAL_MAX_MS
      target.waitMs = Math.min(most, target.waitMs * 2)
      this.#onFailed(target, addresses, cause)
    } finally {
      target.busy = false
      target.nextAt = performance.now() + target.waitMs
    }
  }

  /** At debug, as absent peers are normal; what an operator must mend is said once, as a warning. */
  #onFailed(target: Target, addresses: readonly string[], cause: unknown): void {
    const { counters, logger, isPrivate } = this.#o
    if (isOwnAddress(cause)) {
      // One list of bootstrap addresses for all nodes of a ring holds each node's own.
      logger.debug({ addresses }, 'this address is this node itself, and is not dialled again')
      this.#targets.delete(target.name)
      return
    }
    const why = counters.failed(cause)
    const advice = target.warned ? null : dialAdvice(why, target, isPrivate)
    if (advice === null) {
      logger.debug({ err: cause, why, addresses }, 'dial failed')
      return
    }
    target.warned = true
    logger.warn({ addresses, why }, advice)
  }
}

/** What an operator should hear about a dial that failed; null where an absent peer is normal. Pure. */
export function dialAdvice(
  why: DialFailure,
  target: { readonly source: PeerSource; readonly wasMet: boolean; readonly attempts: number },
  isPrivate: boolean,
): string | null {
  if (why === 'wrong_peer') return 'another peer answers at this address: correct the /p2p/ part of it'
  if (why === 'handshake')
    return isPrivate
      ? 'no handshake with the peer at this address: is it in this private network (same swarm key)?'
      : 'no handshake with the peer at this address: is it a gym node, and not one of a private network (swarm key)?'
  // A bootstrap peer may start a moment later than this node; one that never answers is a typing error or a firewall.
  if (target.source !== 'bootstrap' || target.wasMet || target.attempts < BOOTSTRAP_PATIENCE) return null
  switch (why) {
    case 'name':
      return 'the name in this bootstrap address cannot be looked up: is it spelt right, and does DNS work here?'
    case 'refused':
      return 'nothing listens at this bootstrap address: is the node there up, and is this its port?'
    case 'timeout':
    case 'unreachable':
      return 'no answer from this bootstrap address: is it right, is that machine up, does a firewall let the port through?'
    case 'denied':
    case 'relay':
    case 'other':
      return 'this bootstrap address cannot be dialled; dialling goes on'
  }
}

/** libp2p names this case in the message only, and may wrap it. */
function isOwnAddress(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false
  if (thrown instanceof AggregateError && thrown.errors.some(isOwnAddress)) return true
  return /dial self/.test(thrown.message) || isOwnAddress(thrown.cause)
}

/** Others spoke of it, and nobody here has met it. */
function isHearsay({ source, wasMet }: Target): boolean {
  return !wasMet && (source === 'peer' || source === 'dht' || source === 'mdns')
}
