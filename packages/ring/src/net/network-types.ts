/** How a node looks for others and lets itself be found: the options and the report. No behaviour. */
import type { Reachability } from '../reach/reachability.ts'
import type { DialFailure, NetLimit, PeerSource } from './net-counters.ts'

/** Where known addresses are kept between runs: atomic (old or new, never a mix). */
export interface BookStore {
  load(): Promise<Uint8Array | null>
  save(bytes: Uint8Array): Promise<void>
}

/** Everything beyond bootstrap addresses and mDNS. What is left out is off. */
export interface NetworkOptions {
  /**
   * rendezvous by job id: `client` asks the DHT, `server` also answers others, `auto` answers once a public address of
   * this node is known
   */
  readonly dht?: 'off' | 'auto' | 'client' | 'server'
  /**
   * circuit relay v2: `auto` keeps a place at a relay while others cannot dial this node, `always` in any case, `off`
   * neither uses relays nor dials peers behind one
   */
  readonly relay?: 'off' | 'auto' | 'always'
  /** multiaddrs of relays; others that this node happens to be connected to are used when these are not enough */
  readonly relays?: readonly string[]
  /** turn a relayed connection into a direct one where the two NATs allow it (DCUtR) */
  readonly holePunching?: boolean
  /** ask peers to dial back, to know whether this node can be reached, and dial back those that ask */
  readonly reachability?: boolean
  /** multiaddrs to tell others besides those listened on: a forwarded port, a name */
  readonly announce?: readonly string[]
  /** text of a libp2p swarm key: only nodes with the same key can connect */
  readonly swarmKey?: string
  /** known addresses, tried at start before the bootstrap peers */
  readonly book?: BookStore
}

/** What a node knows about its place in the network. */
export interface NetworkStatus {
  readonly reachability: Reachability
  /** one sentence each: what was seen, and what to do about it (may be empty) */
  readonly seen: string
  readonly advice: string
  /** relays that hold a place for this node now */
  readonly reservations: number
  /** open connections, and how many of them go through a relay */
  readonly connections: number
  readonly relayedConnections: number
  /** relayed connections that became direct ones */
  readonly holePunches: number
  /** peers of the job met, by how they were first heard of */
  readonly found: Readonly<Record<PeerSource, number>>
  readonly dials: number
  readonly dialFailures: Readonly<Record<DialFailure, number>>
  readonly limits: Readonly<Record<NetLimit, number>>
}
