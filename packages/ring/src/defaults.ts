/** Every default and limit of the ring, with its unit and its reason. */

/** What a peer can make this node spend. Everything that is read from a peer is held against one of these. */
export interface RingLimits {
  /** payload bytes in one sealed frame: large enough to amortise the tag and the call, small enough to pipeline */
  readonly chunkBytes: number
  /** bytes of one control message: a view of 256 members with addresses fits several times */
  readonly controlMessageBytes: number
  /** control messages a second from one peer, refilled continuously */
  readonly controlMessagesPerSecond: number
  /** control messages that may come at once: a view change in a large ring is a burst */
  readonly controlBurst: number
  /** bytes of control messages a second from one peer: each costs its reader more than its sender */
  readonly controlBytesPerSecond: number
  /** bytes of control messages that may come at once: the views and greetings of a large ring */
  readonly controlBurstBytes: number
  /** bytes queued to a peer on its control stream before it counts as stuck */
  readonly controlQueueBytes: number
  /** link streams one peer may have in handshake at once */
  readonly pendingLinksPerPeer: number
  /** state bytes accepted from a peer: adapter and outer momentum of a large model */
  readonly stateBytes: number
  /** members of one view: the control plane is a full mesh */
  readonly members: number
  /** addresses kept per peer */
  readonly addressesPerPeer: number
  /** peers of the job remembered beyond the view, so that garbage cannot fill memory */
  readonly knownPeers: number
  /** open connections in all; beyond it the one needed least goes */
  readonly connections: number
  /** open connections with one peer: one direct, one relayed, and both ends may dial at once */
  readonly connectionsPerPeer: number
  /** inbound streams open on one connection: control, links, state, requests, DHT; libp2p allows 1,000 */
  readonly streamsPerConnection: number
  /** connections a second that one host may begin: a whole ring may run on one machine or behind one NAT */
  readonly handshakesPerHostPerSecond: number
  /** inbound connections in handshake at once, of all hosts */
  readonly pendingHandshakes: number
  /** peers whose addresses are kept across restarts */
  readonly bookPeers: number
  /** ms a member may hold up a round that a majority waits in, before it is left out */
  readonly stragglerMs: number
  /** ms to wait for a neighbour's link at the start of a round: a dial, a handshake, and a retry of each */
  readonly linkMs: number
  /** ms to try a neighbour's direct socket before the stream is used */
  readonly directDialMs: number
  /** ms without one chunk in a running round before it is tried again under a new view */
  readonly stallMs: number
}

export const DEFAULT_LIMITS: RingLimits = {
  chunkBytes: 1024 * 1024,
  controlMessageBytes: 256 * 1024,
  controlMessagesPerSecond: 200,
  controlBurst: 2000,
  controlBytesPerSecond: 512 * 1024,
  controlBurstBytes: 8 * 1024 * 1024,
  controlQueueBytes: 8 * 1024 * 1024,
  pendingLinksPerPeer: 4,
  stateBytes: 16 * 1024 * 1024 * 1024,
  members: 256,
  addressesPerPeer: 16,
  knownPeers: 1024,
  connections: 768,
  connectionsPerPeer: 6,
  streamsPerConnection: 128,
  handshakesPerHostPerSecond: 100,
  pendingHandshakes: 100,
  bookPeers: 256,
  stragglerMs: 15 * 60_000,
  linkMs: 20_000,
  directDialMs: 3_000,
  stallMs: 60_000,
}

/** Heartbeats per peer timeout: four may be lost before a member is suspected. */
export const HEARTBEATS_PER_TIMEOUT = 5

/** Ticks of the view machine per peer timeout: bounds how late a silence is noticed to 5 %. */
export const TICKS_PER_TIMEOUT = 20

/** Standing still for longer than this part of the peer timeout is not held against others: their signs wait unread. */
export const STANDSTILLS_PER_TIMEOUT = 4

/** How often is looked whose round-trip time is to be measured. */
export const PATHS_LOOK_MS = 1_000

/** The set of genesis candidates must be unchanged for this long, so that one started a moment later is included. */
export const GENESIS_SETTLE_MS = 500

/** How long `stop` waits for the others to agree on a view without this node before it simply goes. */
export const LEAVE_WAIT_MS = 1_500

/** Wait between attempts to dial an address that did not answer. */
export const REDIAL_MIN_MS = 250
export const REDIAL_MAX_MS = 10_000

/** A dial or a handshake that takes longer than this has failed. */
export const DIAL_TIMEOUT_MS = 10_000

/** A source of state that brings less than this in `stallMs` is given up: 1 KiB a second holds nobody up for long. */
export const MIN_STATE_BYTES_PER_STALL = 64 * 1024

/** While there are other sources one is left that brings less in `stallMs`: 2 Mbit/s, or a tenth of the state. */
export const QUICK_STATE_BYTES_PER_STALL = 16 * 1024 * 1024
export const QUICK_STATE_SHARE_PER_STALL = 0.1

/** Libp2p protocols of the ring; the version is part of the id, so that two versions never misread each other. */
export const CONTROL_PROTOCOL = '/gym-node/ring/control/2.0.0'
/** What it was before votes were signed: a node that speaks only this is told apart from one that is no gym node. */
export const UNSIGNED_CONTROL_PROTOCOL = '/gym-node/ring/control/1.0.0'
export const LINK_PROTOCOL = '/gym-node/ring/link/2.0.0'
export const STATE_PROTOCOL = '/gym-node/ring/state/1.0.0'

/** Bytes of one handshake message: an ML-DSA-87 signature and key with the binding are about 13 KiB. */
export const HANDSHAKE_MESSAGE_BYTES = 64 * 1024

/** Direct sockets a link may have side by side: beyond this, packets of one neighbour crowd out everybody else's. */
export const MAX_DIRECT_SOCKETS = 16

/**
 * One socket fills a local path; a long one with loss needs several (`sockets`), as each backs off by itself. Not chosen
 * by itself: Node does not show a socket's window or losses, so a path that is full looks like one that loses packets,
 * and more sockets on a full path only take from its other users. Whoever runs the node knows which it is.
 */
export const DEFAULT_DIRECT_SOCKETS = 1
