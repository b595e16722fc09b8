/**
 * Which peers of the job this node has heard of, where they can be dialled, and who spoke of them first. Bounded. What
 * a peer says of itself, and where it was reached, stands above whatever others say of it.
 */
import { multiaddr } from '@multiformats/multiaddr'
import { peerIdFromString } from '@libp2p/peer-id'
import type { RingLimits } from '../defaults.ts'
import { HEARSAY_ADDRESSES, HEARSAY_TELLERS } from './defaults.ts'
import type { NetCounters, PeerSource } from './net-counters.ts'
import type { KnownPeer } from './peer-messages.ts'

/** What one of those who speak of a peer says, and how often that has been tried. */
interface Hearsay {
  readonly addresses: readonly string[]
  tried: number
}

interface Entry {
  readonly source: PeerSource
  met: boolean
  /** where a dial has reached it */
  reached: string | null
  /** what it says itself; null before its first word */
  own: readonly string[] | null
  /** what others say, by who does: none of them can take the word from another */
  readonly told: Map<string, Hearsay>
}

/** Addresses by peer. Nothing in it is trusted: a wrong address costs a dial that fails or ends at the peer's id. */
export class KnownPeers {
  readonly #entries = new Map<string, Entry>()
  readonly #limits: RingLimits
  readonly #counters: NetCounters
  readonly #isConnected: (peer: string) => boolean

  /** `isConnected`: such peers are not forgotten. */
  constructor(limits: RingLimits, counters: NetCounters, isConnected: (peer: string) => boolean) {
    this.#limits = limits
    this.#counters = counters
    this.#isConnected = isConnected
  }

  /**
   * Remembers what `teller` (by default the source itself) says of a peer. Returns whether it is new; false as well when
   * the list is full, none of the addresses can be used, or the peer has spoken for itself.
   */
  learn({ peer, addresses }: KnownPeer, source: PeerSource, teller: string = source): boolean {
    const isOwnWord = source === 'inbound'
    const before = this.#entries.get(peer)
    if (before === undefined && this.#entries.size >= this.#limits.knownPeers) {
      this.#counters.hit('known_peers')
      if (!this.#makeRoom(isOwnWord)) return false
    }
    if (!isOwnWord && before !== undefined && (before.own !== null || !hasRoom(before.told, teller)))
      return false
    const most = isOwnWord ? this.#limits.addressesPerPeer : HEARSAY_ADDRESSES
    const kept = usable(addresses, peer, most)
    if (kept.length === 0 && before === undefined && !isOwnWord) return false
    const entry = before ?? { source, met: false, reached: null, own: null, told: new Map<string, Hearsay>() }
    this.#entries.set(peer, entry)
    if (isOwnWord) {
      if (entry.own?.join() === kept.join()) return false
      entry.own = kept
      entry.told.clear()
      return true
    }
    if (kept.length === 0 || entry.told.get(teller)?.addresses.join() === kept.join()) return false
    if (!entry.told.has(teller) && entry.told.size >= HEARSAY_TELLERS) dropTried(entry.told)
    entry.told.set(teller, { addresses: kept, tried: 0 })
    return true
  }

  /** Where a peer can be dialled as far as is known, the address that was reached last first. */
  addressesOf(peer: string): readonly string[] {
    const entry = this.#entries.get(peer)
    if (entry === undefined) return []
    return unique(entry, entry.own ?? [...entry.told.values()].flatMap(({ addresses }) => addresses)).slice(
      0,
      this.#limits.addressesPerPeer,
    )
  }

  /**
   * What to dial in the given attempt, from 0: all that the peer says, then each address by itself, as one dial has no
   * time for many that are silent; before its first word what one says, then what the next says.
   */
  dialListOf(peer: string, attempt: number): readonly string[] {
    const entry = this.#entries.get(peer)
    if (entry === undefined) return []
    if (entry.own === null && entry.told.size > 0) {
      const [hearsay] = [...entry.told.values()].sort((a, b) => a.tried - b.tried)
      if (hearsay !== undefined) hearsay.tried += 1
      return unique(entry, hearsay?.addresses ?? [])
    }
    const all = this.addressesOf(peer)
    const turn = attempt % (all.length + 1)
    return turn === 0 || all.length === 1 ? all : all.slice(turn - 1, turn)
  }

  /** A dial has reached this peer at an address: worth more than what anybody says. */
  noteReached(peer: string, source: PeerSource, address: string): void {
    if (!this.#entries.has(peer)) {
      if (this.#entries.size >= this.#limits.knownPeers && !this.#makeRoom(true)) return
      this.#entries.set(peer, { source, met: false, reached: null, own: null, told: new Map() })
    }
    const entry = this.#entries.get(peer)
    if (entry !== undefined) entry.reached = dialable(address, peer)
  }

  /** This peer has said hello: counted once, under whoever spoke of it first. */
  noteMet(peer: string): void {
    const entry = this.#entries.get(peer)
    if (entry === undefined || entry.met) return
    entry.met = true
    this.#counters.found[entry.source] += 1
  }

  /**
   * Forgets a peer that nobody has met: for hearsay one that was dialled in vain, for a peer that came itself any, and
   * then the one that came first and is gone. Returns whether there is room now.
   */
  #makeRoom(isOwnWord: boolean): boolean {
    for (const [peer, { met, told }] of this.#entries) {
      const isTried = [...told.values()].some(({ tried }) => tried > 0)
      if (!met && (isOwnWord || isTried) && !this.#isConnected(peer)) return this.#entries.delete(peer)
    }
    if (!isOwnWord) return false
    for (const peer of this.#entries.keys()) if (!this.#isConnected(peer)) return this.#entries.delete(peer)
    return false
  }
}

function hasRoom(told: ReadonlyMap<string, Hearsay>, teller: string): boolean {
  return told.has(teller) || told.size < HEARSAY_TELLERS || [...told.values()].some(({ tried }) => tried > 0)
}

/** What was dialled most often, in vain, makes room. */
function dropTried(told: Map<string, Hearsay>): void {
  const [most] = [...told].sort(([, a], [, b]) => b.tried - a.tried)
  if (most !== undefined) told.delete(most[0])
}

function unique({ reached }: Entry, addresses: readonly string[]): string[] {
  return [...new Set(reached === null ? addresses : [reached, ...addresses])]
}

function usable(addresses: readonly string[], peer: string, most: number): string[] {
  const readable = addresses.map((address) => dialable(address, peer)).filter((address) => address !== null)
  return [...new Set(readable)].slice(0, most)
}

/** The address with the peer id at its end, or null when it is no address of that peer that this node can read. */
function dialable(address: string, peer: string): string | null {
  try {
    peerIdFromString(peer)
    const parts = multiaddr(address).getComponents()
    const last = parts.at(-1)
    if (last?.name === 'p2p') return last.value === peer ? address : null
    return `${address}/p2p/${peer}`
  } catch {
    // An address that cannot be read cannot be dialled.
    return null
  }
}
