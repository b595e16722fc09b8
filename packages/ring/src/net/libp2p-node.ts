/**
 * Builds the libp2p node of a ring: TCP, Noise, yamux, identify and ping, and what the network options ask for. libp2p
 * takes most of a second to load, so this file is imported when a ring is created, and optional parts when they are used.
 */
import { privateKeyFromRaw } from '@libp2p/crypto/keys'
import { identify, identifyPush } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import type { Connection, Libp2p, PeerId, PeerInfo } from '@libp2p/interface'
import type { AddressManager, TransportManager } from '@libp2p/interface-internal'
import type { Ping } from '@libp2p/ping'
import { createLibp2p, type Libp2pOptions } from 'libp2p'
import { multiaddr, type Multiaddr } from '@multiformats/multiaddr'
import type { Identity } from '@gym-node/wire'
import { DIAL_TIMEOUT_MS, type RingLimits } from '../defaults.ts'
import * as defaults from './defaults.ts'
import { BoundedDatastore } from './bounded-datastore.ts'
import { createGate } from './gate.ts'
import type { NetCounters } from './net-counters.ts'
import type { NetworkOptions } from './network-types.ts'
import { noiseCrypto } from './noise-crypto.ts'
import { affordableConnections, ownOpenFilesLimit } from './open-files.ts'
import { PunchPort } from '../reach/punch-port.ts'
import { checkSwarmKey } from './swarm-key.ts'

/** How long an address that was dialled counts as confirmed; asked anew long before. */
const CONFIRMED_MS = 2 * defaults.REACH_EVERY_MS

/** What the node is built from. */
export interface NodeOptions {
  readonly identity: Identity
  readonly listen: readonly string[]
  readonly mdns: boolean
  readonly network: NetworkOptions
  readonly limits: RingLimits
  readonly isDenied: (peer: string) => boolean
  readonly counters: NetCounters
  /** further services: the relay's */
  readonly services?: Libp2pOptions['services']
  /** how far a peer may send ahead on a stream, where less than libp2p's 16 MiB is wanted */
  readonly streamWindowBytes?: number
}

/** A node and the inner parts of it that libp2p hands to services only. */
export interface BuiltNode {
  readonly node: Libp2p
  /** open connections in all: the limit, or what the limit of open files leaves of it */
  readonly connectionsKept: number
  readonly ping: Ping
  /** asks a peer what it is once more: libp2p asks once, and a machine under load may miss the answer */
  readonly identify: (connection: Connection) => Promise<void>
  readonly transports: TransportManager
  /** where dials come from when holes are to be punched, else null */
  readonly punchPort: PunchPort | null
  /** gym nodes on the local network; libp2p's own event would mix them with every node of the DHT */
  readonly onMdnsPeer: (handler: (peer: PeerInfo) => void) => void
  /** tells others the public addresses that this machine itself listens on; libp2p keeps these back until confirmed */
  readonly announceListening: () => void
  /** tells others an address of this node that somebody has really dialled */
  readonly confirmAddress: (host: string, port: number) => void
  /** tells others no more of an address that was confirmed */
  readonly withdrawAddress: (host: string, port: number) => void
}

/** The parts that a libp2p service is given; only what is used here. */
interface Components {
  readonly transportManager: TransportManager
  readonly addressManager: AddressManager
}

/** A node that is not started yet. Throws RingError BAD_SWARM_KEY. */
export async function buildNode(options: NodeOptions): Promise<BuiltNode> {
  const { identity, limits, network } = options
  const connectionsKept = affordableConnections(limits.connections, ownOpenFilesLimit())
  const raw = new Uint8Array(64)
  raw.set(identity.ed25519Seed)
  raw.set(identity.ed25519PublicKey, 32)
  const heard: { mdns: (peer: PeerInfo) => void } = { mdns: () => undefined }
  const optional = await optionalParts(options, (peer) => heard.mdns(peer))
  const punchPort =
    (network.relay ?? 'off') !== 'off' && network.holePunching === true ? new PunchPort() : null
  let inner: Components | null = null
  const connections: { with: (this: void, peer: PeerId) => number } = { with: () => 0 }
  const node = await createLibp2p({
    ...optional,
    start: false,
    datastore: new BoundedDatastore(),
    privateKey: privateKeyFromRaw(raw),
    addresses: { listen: [...options.listen], appendAnnounce: [...(network.announce ?? [])] },
    transports: [
      (components) => {
        const transport = tcp()(components)
        return punchPort?.useFor(transport) ?? transport
      },
      ...(optional.transports ?? []),
    ],
    connectionEncrypters: [noise({ crypto: noiseCrypto })],
    streamMuxers: [
      yamux({
        maxInboundStreams: limits.streamsPerConnection,
        ...(options.streamWindowBytes === undefined
          ? {}
          : { streamOptions: { maxStreamWindowSize: options.streamWindowBytes } }),
      }),
    ],
    services: {
      ...optional.services,
      ...options.services,
      identify: identify(),
      identifyPush: identifyPush(),
      ping: ping(),
      inner: (components: Components) => {
        inner = components
        return {}
      },
    },
    connectionGater: createGate({
      isDenied: options.isDenied,
      connectionsWith: (peer) => connections.with(peer),
      connectionsPerPeer: limits.connectionsPerPeer,
      counters: options.counters,
    }),
    connectionManager: {
      dialTimeout: DIAL_TIMEOUT_MS,
      // Who goes at the limit is chosen in crowd.ts, which needs to know who comes; here it would be whoever comes next.
      maxConnections: connectionsKept + defaults.CONNECTIONS_AT_THE_DOOR,
      maxParallelDials: defaults.PARALLEL_DIALS,
      inboundConnectionThreshold: limits.handshakesPerHostPerSecond,
      maxIncomingPendingConnections: limits.pendingHandshakes,
      // The mesh dials again by itself, with a growing wait; two that do would undo the waiting.
      reconnectRetries: 0,
    },
    // The ring has heartbeats of its own; this monitor would cut a peer that is merely busy for a few seconds.
    connectionMonitor: { enabled: false },
  })
  connections.with = (peer) => node.getConnections(peer).length
  const parts = inner as Components | null
  if (parts === null) throw new Error('libp2p has built no services')
  return {
    node,
    connectionsKept,
    ping: node.services.ping,
    identify: async (connection) => {
      await node.services.identify.identify(connection, { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS) })
    },
    transports: parts.transportManager,
    punchPort,
    onMdnsPeer: (handler) => {
      heard.mdns = handler
    },
    announceListening: () => {
      for (const address of parts.transportManager.getAddrs()) {
        parts.addressManager.confirmObservedAddr(address, { type: 'transport', ttl: Infinity })
      }
    },
    confirmAddress: (host, port) => {
      parts.addressManager.confirmObservedAddr(tcpAddress(host, port), {
        type: 'observed',
        ttl: CONFIRMED_MS,
      })
    },
    withdrawAddress: (host, port) => parts.addressManager.removeObservedAddr(tcpAddress(host, port)),
  }
}

function tcpAddress(host: string, port: number): Multiaddr {
  return multiaddr(`/${host.includes(':') ? 'ip6' : 'ip4'}/${host}/tcp/${port}`)
}

/** What the network options add, each loaded when it is asked for. */
async function optionalParts(
  { network, mdns: usesMdns, limits }: NodeOptions,
  onMdnsPeer: (peer: PeerInfo) => void,
): Promise<Libp2pOptions> {
  const transports: Libp2pOptions['transports'] = []
  const services: NonNullable<Libp2pOptions['services']> = {}
  const relay = network.relay ?? 'off'
  if (relay !== 'off') {
    const { circuitRelayTransport } = await import('@libp2p/circuit-relay-v2')
    // Places are kept by the relay keeper; libp2p's own search would take places that are not needed.
    transports.push(circuitRelayTransport({ maxInboundStopStreams: limits.connections }))
  }
  const dht = network.dht ?? 'off'
  if (dht !== 'off') services.dht = await dhtService(dht, limits)
  const found: Libp2pOptions = { transports, services }
  if (usesMdns) {
    const { mdns } = await import('@libp2p/mdns')
    const create = mdns({ serviceTag: defaults.MDNS_SERVICE })
    const discovery: NonNullable<Libp2pOptions['peerDiscovery']>[number] = (components) => {
      const service = create(components)
      service.addEventListener('peer', (event) => onMdnsPeer(event.detail))
      return service
    }
    found.peerDiscovery = [discovery]
  }
  if (network.swarmKey !== undefined) {
    const psk = new TextEncoder().encode(checkSwarmKey(network.swarmKey))
    found.connectionProtector = (await import('@libp2p/pnet')).preSharedKey({ psk })
  }
  return found
}

async function dhtService(
  mode: 'auto' | 'client' | 'server',
  limits: RingLimits,
): Promise<NonNullable<Libp2pOptions['services']>[string]> {
  const { kadDHT, passthroughMapper } = await import('@libp2p/kad-dht')
  const create = kadDHT({
    protocol: defaults.DHT_PROTOCOL,
    ...(mode === 'auto' ? {} : { clientMode: mode === 'client' }),
    // Private addresses stay: a job may live in one house, and its own protocol keeps this DHT apart from others.
    peerInfoMapper: passthroughMapper,
    // A first look at the neighbourhood need not wait for a peer that is not there yet.
    allowQueryWithZeroPeers: true,
    maxInboundStreams: 8,
    reprovide: { validity: defaults.RENDEZVOUS_VALID_MS, threshold: defaults.RENDEZVOUS_VALID_MS / 2 },
    providers: { cacheSize: limits.knownPeers },
  })
  // libp2p gives services each other by name, `ping` among them; its types cannot say so for a map made at run time.
  return (components) => create(components as unknown as Parameters<typeof create>[0])
}
