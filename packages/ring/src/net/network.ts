/**
 * How this node finds others and is found, besides dialling: known addresses, mDNS, the DHT, relays, dial-back. It
 * feeds the mesh with peers and tells the owner what it knows of its place in the network.
 */
import type { Connection } from '@libp2p/interface'
import { BookKeeper } from '../discovery/book-keeper.ts'
import { Rendezvous } from '../discovery/rendezvous.ts'
import type { RingLimits } from '../defaults.ts'
import { keepRoom } from './crowd.ts'
import { BOOK_HEAD_START_MS, REACH_EVERY_MS, REACH_PEERS } from './defaults.ts'
import type { RingError } from '../errors.ts'
import {
  judgeReachability,
  portOf,
  seenHosts,
  type DialBack,
  type ReachVerdict,
} from '../reach/reachability.ts'
import { HolePuncher } from '../reach/hole-puncher.ts'
import { ReachService } from '../reach/reach-service.ts'
import { RelayKeeper } from '../reach/relay-keeper.ts'
import type { RingLogger } from '../types.ts'
import { IdentifyAgain } from './identify-again.ts'
import type { BuiltNode } from './libp2p-node.ts'
import type { NetCounters } from './net-counters.ts'
import type { NetworkOptions, NetworkStatus } from './network-types.ts'
import type { PeerMesh } from './peer-mesh.ts'
import type { KnownPeer } from './peer-messages.ts'

/** How often places at relays and the verdict are looked after. */
const LOOK_AFTER_MS = 1_000

/** What the network works with. */
export interface NetworkParts {
  readonly built: BuiltNode
  readonly mesh: PeerMesh
  readonly job: string
  readonly options: NetworkOptions
  readonly limits: RingLimits
  readonly counters: NetCounters
  readonly logger: RingLogger
  readonly isObserver: boolean
  readonly isAllowed: (peer: string) => boolean
  /** whether a peer is in the view that this node is in */
  readonly isMember: (peer: string) => boolean
  readonly onRejected: (error: RingError) => void
  /** whether others can dial this node, whenever that is judged anew */
  readonly onVerdict: (verdict: ReachVerdict) => void
}

/** Starts after libp2p, stops before it. */
export class Network {
  readonly #p: NetworkParts
  readonly #reach: ReachService
  readonly #relays: RelayKeeper
  readonly #puncher: HolePuncher | null
  readonly #rendezvous: Rendezvous | null
  readonly #book: BookKeeper | null
  readonly #answers = new Map<string, DialBack & { readonly at: number }>()
  readonly #asking = new Set<string>()
  readonly #identify: IdentifyAgain
  /** hosts told to others as this node's */
  #announced: readonly string[] = []
  #verdict: ReachVerdict
  #timer: NodeJS.Timeout | null = null
  #tending: Promise<void> = Promise.resolve()
  #isTending = false

  constructor(parts: NetworkParts) {
    const { built, options, job, limits, logger, counters, mesh, onRejected } = parts
    const { node, transports } = built
    this.#p = parts
    this.#reach = new ReachService({ node, counters, onRejected })
    this.#relays = new RelayKeeper({ node, transports, logger, named: peersOf(options.relays ?? []) })
    const { isAllowed, isMember } = parts
    this.#puncher =
      built.punchPort === null
        ? null
        : new HolePuncher({ node, transports, port: built.punchPort, isAllowed, logger, onRejected })
    this.#book =
      options.book === undefined ? null : new BookKeeper(options.book, job, limits, logger, isMember)
    this.#rendezvous =
      (options.dht ?? 'off') === 'off'
        ? null
        : new Rendezvous({
            node,
            job,
            logger,
            announces: !parts.isObserver,
            company: () => mesh.peers.length,
            onFound: (peer) => mesh.learn(peer, 'dht'),
          })
    this.#identify = new IdentifyAgain({
      connections: () => node.getConnections(),
      isKnown: async ({ remotePeer }) => {
        const known = await node.peerStore.get(remotePeer).catch(() => null) // not known at all
        return known !== null && known.protocols.length > 0
      },
      identify: built.identify,
      logger,
    })
    this.#verdict = judgeReachability({ listening: [], answers: [], reservations: 0 })
  }

  /** Known addresses first, then the rest. Returns how long bootstrap peers should wait for them, in ms. */
  async start(): Promise<number> {
    const { built, mesh, options } = this.#p
    built.announceListening()
    keepRoom({
      node: built.node,
      most: built.connectionsKept,
      isNeeded: (peer) => this.#p.isMember(peer) || this.#relays.places.has(peer),
      hasSpoken: (peer) => mesh.peers.includes(peer),
      counters: this.#p.counters,
    })
    built.onMdnsPeer(({ id, multiaddrs }) => {
      mesh.learn({ peer: id.toString(), addresses: multiaddrs.map((address) => address.toString()) }, 'mdns')
    })
    const known = (await this.#book?.load()) ?? []
    for (const { peer, addresses } of known) mesh.learn({ peer, addresses: [...addresses] }, 'book')
    if (options.reachability === true) await this.#reach.start()
    await this.#puncher?.start()
    this.#rendezvous?.start()
    this.#timer = setInterval(() => this.#lookAfter(), LOOK_AFTER_MS)
    return known.length > 0 ? BOOK_HEAD_START_MS : 0
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    await this.#tending
    await this.#rendezvous?.stop()
    await this.#book?.close(this.#here)
  }

  /** A peer of the job was met: its addresses are worth keeping. */
  noteMet(peer: string): void {
    this.#book?.note(peer, this.#p.mesh.addressesOf(peer))
  }

  /** Whether a direct connection was punched through NAT: nothing else can be dialled at its other end. */
  isPunched(connection: Connection): boolean {
    return this.#puncher?.isPunched(connection) ?? false
  }

  /** What is known now. */
  get status(): NetworkStatus {
    const { built, counters } = this.#p
    const connections = built.node.getConnections()
    const relayed = connections.filter(({ remoteAddr }) => remoteAddr.toString().includes('/p2p-circuit'))
    const { state, seen, advice } = this.#verdict
    return {
      reachability: state,
      seen,
      advice,
      reservations: this.#relays.places.size,
      connections: connections.length,
      relayedConnections: relayed.length,
      holePunches: counters.holePunches,
      found: { ...counters.found },
      dials: counters.dials,
      dialFailures: { ...counters.dialFailures },
      limits: { ...counters.limits },
    }
  }

  #lookAfter(): void {
    if (this.#isTending) return
    this.#isTending = true
    this.#tending = this.#tend()
      .catch((err: unknown) => this.#p.logger.warn({ err }, 'looking after the network failed'))
      .finally(() => {
        this.#isTending = false
      })
  }

  async #tend(): Promise<void> {
    const { options } = this.#p
    this.#book?.refresh(this.#here)
    this.#book?.saveIfDue()
    this.#puncher?.tend()
    this.#identify.look(performance.now())
    if (options.reachability === true) this.#askPeers()
    this.#judge()
    const relay = options.relay ?? 'off'
    const needsPlace = relay === 'always' || (relay === 'auto' && this.#verdict.state !== 'public')
    // Until somebody has answered, a node that may turn out to be reachable takes no place from one that is not.
    const isDecided = options.reachability !== true || this.#answers.size > 0
    if (needsPlace && (relay === 'always' || isDecided)) await this.#relays.keep()
  }

  /** Asks peers over direct connections, each again when its answer has become old. */
  #askPeers(): void {
    const { node } = this.#p.built
    const now = performance.now()
    for (const [peer, { at }] of this.#answers) if (now - at > 2 * REACH_EVERY_MS) this.#answers.delete(peer)
    const port = this.#listening.map(portOf).find((value) => value !== null)
    if (port == null) return
    for (const connection of node.getConnections()) {
      const peer = connection.remotePeer.toString()
      if (connection.limits !== undefined || connection.remoteAddr.toString().includes('/p2p-circuit'))
        continue
      const known = this.#answers.get(peer)
      const isFresh = known !== undefined && now - known.at < REACH_EVERY_MS
      if (isFresh || this.#asking.has(peer)) continue
      if (known === undefined && this.#answers.size + this.#asking.size >= REACH_PEERS) continue
      this.#asking.add(peer)
      this.#reach
        .ask(connection, port)
        .then(
          (answer) => this.#answers.set(peer, { ...answer, at: performance.now() }),
          (err: unknown) => this.#p.logger.debug({ err, peer }, 'no dial back'),
        )
        .finally(() => this.#asking.delete(peer))
        .catch(() => undefined) // both outcomes are handled above
    }
  }

  #judge(): void {
    const { onVerdict } = this.#p
    const before = this.#verdict.state
    const verdict = judgeReachability({
      listening: this.#listening,
      answers: [...this.#answers.values()],
      reservations: this.#relays.places.size,
      portVaries: this.#p.built.punchPort?.varies ?? false,
    })
    this.#verdict = verdict
    this.#announceSeen(verdict.state === 'public' ? seenHosts([...this.#answers.values()]) : [])
    if (verdict.state !== before) onVerdict(verdict)
  }

  /** Peers of the job that are connected. */
  get #here(): KnownPeer[] {
    const { mesh } = this.#p
    return mesh.peers.map((peer) => ({ peer, addresses: [...mesh.addressesOf(peer)] }))
  }

  /** Peers have dialled these hosts: they are told to others from now on, and those before them, which moved, no more. */
  #announceSeen(hosts: readonly string[]): void {
    const port = this.#listening.map(portOf).find((value) => value !== null)
    if (port == null || hosts.join() === this.#announced.join()) return
    const { confirmAddress, withdrawAddress } = this.#p.built
    for (const host of this.#announced) if (!hosts.includes(host)) withdrawAddress(host, port)
    for (const host of hosts) confirmAddress(host, port)
    this.#announced = hosts
  }

  get #listening(): string[] {
    return this.#p.built.transports.getAddrs().map((address) => address.toString())
  }
}

/** The peer ids at the ends of addresses; of those without one nothing. */
function peersOf(addresses: readonly string[]): string[] {
  return addresses.flatMap((address) => /\/p2p\/([^/]+)$/.exec(address)?.[1] ?? [])
}
