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
  /** open connections in all; libp2p closes the least useful ones beyond it */
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
  chunkBytes: 512 * 1024,
  controlMessageBytes: 256 * 1024,
  controlMessagesPerSecond: 200,
  controlBurst: 2000,
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

/** The set of genesis candidates must be unchanged for this long, so that one started a moment later is included. */
export const GENESIS_SETTLE_MS = 500

/** How long `stop` waits for the others to agree on a view without this node before it simply goes. */
export const LEAVE_WAIT_MS = 1_500

/** Wait between attempts to dial an address that did not answer. */
export const REDIAL_MIN_MS = 250
export const REDIAL_MAX_MS = 10_000

/** A dial or a handshake that takes longer than this has failed. */
export const DIAL_TIMEOUT_MS = 10_000

/** Libp2p protocols of the ring; the version is part of the id, so that two versions never misread each other. */
export const CONTROL_PROTOCOL = '/gym-node/ring/control/1.0.0'
export const LINK_PROTOCOL = '/gym-node/ring/link/1.0.0'
export const STATE_PROTOCOL = '/gym-node/ring/state/1.0.0'

/** Bytes of one handshake message: an ML-DSA-87 signature and key with the binding are about 13 KiB. */
export const HANDSHAKE_MESSAGE_BYTES = 64 * 1024

/** A round trip of dial-back: ask, be dialled (which may time out), answer. */
export const REACH_PROTOCOL = '/gym-node/reach/1.0.0'

/** The DHT is this project's own, apart from IPFS: its peers are gym nodes and relays of all jobs. */
export const DHT_PROTOCOL = '/gym-node/kad/1.0.0'

/** How long an announcement in the DHT is valid: a node that is gone is forgotten within the hour. */
export const RENDEZVOUS_VALID_MS = 60 * 60_000

/** Announce again three times within that. */
export const RENDEZVOUS_ANNOUNCE_MS = 20 * 60_000

/** Look for peers of the job: soon and often while alone, seldom once others are known (they name their peers). */
export const RENDEZVOUS_FIRST_MS = 1_000
export const RENDEZVOUS_ALONE_MAX_MS = 60_000
export const RENDEZVOUS_IN_COMPANY_MS = 10 * 60_000

/** One look or announcement in the DHT is given up after this long. */
export const RENDEZVOUS_TIMEOUT_MS = 30_000

/** Dials under way at once. */
export const PARALLEL_DIALS = 32

/** Addresses from the book go first; the bootstrap peers are dialled this much later, and at once without a book. */
export const BOOK_HEAD_START_MS = 500

/** Known addresses are forgotten two weeks after the last meeting: home addresses change about that often. */
export const BOOK_MAX_AGE_MS = 14 * 24 * 3_600_000

/** The book is written at most this often. */
export const BOOK_SAVE_MS = 10_000

/** A peer that does not speak the ring's protocol (a relay, a peer of another job) is asked again after this long. */
export const STRANGER_MS = 60_000

/** A relayed connection is given this long to become direct before the control stream settles on it. */
export const HOLE_PUNCH_WAIT_MS = 3_000

/** A control stream that ends while another connection to the peer is open has this long to come back unnoticed. */
export const CHANNEL_GRACE_MS = 2_000

/** Relays that hold a place for this node: a second one for when the first goes. */
export const RELAY_PLACES = 2

/** Wait between attempts to get a place at a relay. */
export const RELAY_RETRY_MIN_MS = 1_000
export const RELAY_RETRY_MAX_MS = 60_000

/** Peers asked to dial back, how often anew, and how long one dial back may take. */
export const REACH_PEERS = 3
export const REACH_EVERY_MS = 15 * 60_000
export const REACH_DIAL_MS = 5_000

/** One peer may have itself dialled back this often, and this many dials back run at once: nobody's hammer. */
export const REACH_PER_PEER_MS = 10_000
export const REACH_CONCURRENT = 4
