/**
 * A relay that anybody can run: it holds places for nodes behind NAT, carries their sealed traffic without being able
 * to read it, answers the DHT and dials back. It is of no job and needs no model.
 */
import type { CircuitRelayService } from '@libp2p/circuit-relay-v2'
import type { Identity } from '@gym-node/wire'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { DEFAULT_LIMITS, DIAL_TIMEOUT_MS } from '../defaults.ts'
import {
  DEFAULT_RELAY_LIMITS,
  REDIAL_OTHERS_MS,
  RELAY_STREAM_WINDOW_BYTES,
  type RelayLimits,
} from '../net/defaults.ts'
import type { RingError } from '../errors.ts'
import { keepRoom } from '../net/crowd.ts'
import type { BuiltNode } from '../net/libp2p-node.ts'
import { NetCounters } from '../net/net-counters.ts'
import { startNode } from '../net/start-node.ts'
import type { RingLogger } from '../types.ts'
import { ReachService } from './reach-service.ts'
import { RelayTraffic, type RelayTrafficStatus } from './relay-traffic.ts'

/** What a relay is made from. */
export interface RelayOptions {
  readonly identity: Identity
  readonly listen: readonly string[]
  /** further addresses to tell others: a forwarded port, a name */
  readonly announce?: readonly string[]
  /** text of a libp2p swarm key, for a private network */
  readonly swarmKey?: string
  /** peers that are not served */
  readonly deny?: readonly string[]
  /** other relays and nodes, to be found through the DHT */
  readonly bootstrap?: readonly string[]
  readonly limits?: Partial<RelayLimits>
  readonly logger: RingLogger
}

/** A snapshot for logs and status. */
export interface RelayStatus {
  /** nodes that hold a place now */
  readonly reservations: number
  readonly connections: number
  readonly traffic: RelayTrafficStatus
  /** connections refused or cut by a limit, by its name */
  readonly limits: Readonly<Record<string, number>>
}

/** A relay that can be started and stopped. */
export interface Relay {
  readonly peerId: string
  readonly addresses: readonly string[]
  readonly status: RelayStatus
  /** Throws RingError PORT_IN_USE or BAD_ADDRESS. */
  start(): Promise<void>
  stop(): Promise<void>
}

/** Builds a relay; nothing is opened before `start`. Throws RingError BAD_SWARM_KEY. */
export async function createRelay(options: RelayOptions): Promise<Relay> {
  const limits = { ...DEFAULT_RELAY_LIMITS, ...options.limits }
  const counters = new NetCounters()
  const [{ buildNode }, { circuitRelayServer, RELAY_V2_HOP_CODEC, RELAY_V2_STOP_CODEC }] = await Promise.all([
    import('../net/libp2p-node.ts'),
    import('@libp2p/circuit-relay-v2'),
  ])
  const relay = circuitRelayServer({
    maxInboundHopStreams: limits.connectionsPerPlace,
    maxOutboundStopStreams: limits.connectionsPerPlace,
    reservations: {
      maxReservations: limits.places,
      defaultDataLimit: BigInt(limits.bytesPerConnection),
      defaultDurationLimit: limits.msPerConnection,
    },
  })
  const built = await buildNode({
    identity: options.identity,
    listen: options.listen,
    mdns: false,
    network: {
      dht: 'server',
      reachability: true,
      ...(options.announce === undefined ? {} : { announce: options.announce }),
      ...(options.swarmKey === undefined ? {} : { swarmKey: options.swarmKey }),
    },
    limits: { ...DEFAULT_LIMITS, connections: limits.connections },
    isDenied: (peer) => options.deny?.includes(peer) === true,
    counters,
    services: { relay },
    streamWindowBytes: RELAY_STREAM_WINDOW_BYTES,
  })
  const traffic = new RelayTraffic(limits.bytesPerSecond)
  for (const codec of [RELAY_V2_HOP_CODEC, RELAY_V2_STOP_CODEC]) traffic.watchProtocol(built.node, codec)
  return new RelayNode(options, built, counters, traffic)
}

class RelayNode implements Relay {
  readonly peerId: string
  readonly #o: RelayOptions
  readonly #built: BuiltNode
  readonly #counters: NetCounters
  readonly #reach: ReachService
  readonly #traffic: RelayTraffic
  #timer: NodeJS.Timeout | null = null

  constructor(options: RelayOptions, built: BuiltNode, counters: NetCounters, traffic: RelayTraffic) {
    this.#o = options
    this.#built = built
    this.#counters = counters
    this.#traffic = traffic
    this.peerId = options.identity.peerId
    const onRejected = (error: RingError): void =>
      options.logger.debug({ code: error.code, peer: error.peer, err: error }, 'rejected')
    this.#reach = new ReachService({ node: built.node, counters, onRejected })
  }

  get addresses(): readonly string[] {
    return this.#built.node.getMultiaddrs().map((address) => address.toString())
  }

  get #service(): CircuitRelayService | undefined {
    return (this.#built.node.services as { relay?: CircuitRelayService }).relay
  }

  get status(): RelayStatus {
    return {
      reservations: this.#service?.reservations.size ?? 0,
      connections: this.#built.node.getConnections().length,
      traffic: this.#traffic.status,
      limits: { ...this.#counters.limits },
    }
  }

  async start(): Promise<void> {
    await this.#reach.start()
    await startNode(this.#built.node, this.#o.listen)
    this.#built.announceListening()
    keepRoom({
      node: this.#built.node,
      most: this.#built.connectionsKept,
      isNeeded: (peer) => this.#service?.reservations.has(peerIdFromString(peer)) === true,
      hasSpoken: () => false,
      counters: this.#counters,
    })
    this.#dialOthers()
    this.#timer = setInterval(() => this.#dialOthers(), REDIAL_OTHERS_MS)
    this.#o.logger.info({ peer: this.peerId, addresses: this.addresses }, 'relay listens')
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    await this.#built.node.stop()
    this.#traffic.stop()
  }

  /** Connects to the other relays it was told of, so that the DHT is one. */
  #dialOthers(): void {
    for (const address of this.#o.bootstrap ?? []) {
      this.#built.node
        .dial(multiaddr(address), { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS) })
        .catch((err: unknown) => {
          const why = this.#counters.failed(err)
          this.#o.logger.debug({ err, why, address }, 'dial failed')
        })
    }
  }
}
