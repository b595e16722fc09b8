/**
 * Builds the libp2p node of a ring: TCP, Noise, yamux, identify, ping and, when asked, mDNS. libp2p takes most of a
 * second to load, so this file is imported when a ring is created and not before.
 */
import { privateKeyFromRaw } from '@libp2p/crypto/keys'
import { identify, identifyPush } from '@libp2p/identify'
import { mdns } from '@libp2p/mdns'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import type { Libp2p } from '@libp2p/interface'
import { createLibp2p } from 'libp2p'
import type { Identity } from '@gym-node/wire'

/** Inbound connections a second from one host: a whole ring may run on one machine or behind one NAT. */
const INBOUND_PER_SECOND = 200

/** What the node is built from. */
export interface NodeOptions {
  readonly identity: Identity
  readonly listen: readonly string[]
  readonly mdns: boolean
  readonly dialTimeoutMs: number
}

/** A node that is not started yet. */
export async function buildNode(options: NodeOptions): Promise<Libp2p> {
  const { identity } = options
  const raw = new Uint8Array(64)
  raw.set(identity.ed25519Seed)
  raw.set(identity.ed25519PublicKey, 32)
  return createLibp2p({
    start: false,
    privateKey: privateKeyFromRaw(raw),
    addresses: { listen: [...options.listen] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    peerDiscovery: options.mdns ? [mdns()] : [],
    services: { identify: identify(), identifyPush: identifyPush(), ping: ping() },
    connectionManager: {
      dialTimeout: options.dialTimeoutMs,
      inboundConnectionThreshold: INBOUND_PER_SECOND,
      maxIncomingPendingConnections: INBOUND_PER_SECOND,
    },
    // The ring has heartbeats of its own; this monitor would cut a peer that is merely busy for a few seconds.
    connectionMonitor: { enabled: false },
  })
}
