/** Which peers of the job this node has heard of, where they can be dialled, and who spoke of them first. Bounded. */
import { multiaddr } from '@multiformats/multiaddr'
import { peerIdFromString } from '@libp2p/peer-id'
import type { RingLimits } from '../defaults.ts'
import type { NetCounters, PeerSource } from './net-counters.ts'
import type { KnownPeer } from './peer-messages.ts'

interface Entry {
  readonly addresses: readonly string[]
  readonly source: PeerSource
  met: boolean
}

/** Addresses by peer. Nothing in it is trusted: a wrong address costs a dial that fails or ends at the peer's id. */
export class KnownPeers {
  readonly #entries = new Map<string, Entry>()
  readonly #limits: RingLimits
  readonly #counters: NetCounters

  constructor(limits: RingLimits, counters: NetCounters) {
    this.#limits = limits
    this.#counters = counters
  }

  /** Remembers addresses. Returns whether they are new; false as well when the list is full or none can be used. */
  learn({ peer, addresses }: KnownPeer, source: PeerSource): boolean {
    const before = this.#entries.get(peer)
    if (before === undefined && this.#entries.size >= this.#limits.knownPeers) {
      this.#counters.hit('known_peers')
      if (source === 'peer' || !this.#forgetHearsay()) return false
    }
    const usable = addresses.map((address) => dialable(address, peer)).filter((address) => address !== null)
    if (usable.length === 0 && before === undefined && source !== 'inbound') return false
    const kept = [...new Set(usable)].slice(0, this.#limits.addressesPerPeer)
    if (before !== undefined && before.addresses.join() === kept.join()) return false
    this.#entries.set(peer, { addresses: kept, source: before?.source ?? source, met: before?.met ?? false })
    return true
  }

  /** Makes room for what this node knows at first hand: the oldest peer that others spoke of and nobody has met goes. */
  #forgetHearsay(): boolean {
    for (const [peer, { source, met }] of this.#entries)
      if (source === 'peer' && !met) return this.#entries.delete(peer)
    return false
  }

  addressesOf(peer: string): readonly string[] {
    return this.#entries.get(peer)?.addresses ?? []
  }

  /** This peer has said hello: counted once, under whoever spoke of it first. */
  noteMet(peer: string): void {
    const entry = this.#entries.get(peer)
    if (entry === undefined || entry.met) return
    entry.met = true
    this.#counters.found[entry.source] += 1
  }
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
