/** Defaults and limits of finding each other, with unit and reason; what a peer may cost is in `../defaults.ts`. */

/** A round trip of dial-back: ask, be dialled (which may time out), answer. */
export const REACH_PROTOCOL = '/gym-node/reach/1.0.0'

/** Two peers that a relay connects agree on the moment to dial each other. */
export const PUNCH_PROTOCOL = '/gym-node/punch/1.0.0'

/** One attempt at a hole: the two agree, and dial for this long at most. Packets are sent again after 1 and 3 s. */
export const PUNCH_MS = 5_000

/** Attempts that others lead here at once: each has this node dial addresses of their choosing. */
export const PUNCH_CONCURRENT = 4

/** Wait before the next knock at a NAT that refused one, which is what some do with a packet that comes early. */
export const PUNCH_KNOCK_MS = 100

/** Wait after each attempt; the last for all further ones: a NAT that is too strict stays so. */
export const PUNCH_AGAIN_MS: readonly number[] = [2_000, 10_000, 60_000, 600_000]

/** The DHT is this project's own, apart from IPFS: its peers are gym nodes and relays of all jobs. */
export const DHT_PROTOCOL = '/gym-node/kad/1.0.0'

/** The name of gym nodes on the local network, apart from other libp2p programs. */
export const MDNS_SERVICE = '_gym-node._udp.local'

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

/** Connections beyond the limit that may be in their handshake: only then is known whose they are. */
export const CONNECTIONS_AT_THE_DOOR = 64

/** Files that are no connections: handshakes, direct sockets, the state folder, libraries; and connections whatever. */
export const FILES_BESIDE_CONNECTIONS = 320
export const FEWEST_CONNECTIONS = 16

/**
 * Entries that libp2p may keep in memory, by the beginning of their names: peers it has met or heard of, who provides
 * what in the hash table, and all else. The first that fits counts. Some hundred bytes each, so a few megabytes in all.
 */
export const STORED_ENTRIES: readonly { readonly prefix: string; readonly most: number }[] = [
  { prefix: '/peers/', most: 4_096 },
  { prefix: '/dht/provider/', most: 8_192 },
  { prefix: '/', most: 1_024 },
]

/** Bytes of one of them: addresses and protocols of a peer are some hundreds, and others may add to its addresses. */
export const STORED_VALUE_BYTES = 32 * 1024

/** A direct socket that is idle for this long is asked for a sign of life: NATs forget some within a few minutes. */
export const DIRECT_KEEP_ALIVE_MS = 30_000

/** Dials under way at once. */
export const PARALLEL_DIALS = 32

/** Addresses from the book go first; the bootstrap peers are dialled this much later, and at once without a book. */
export const BOOK_HEAD_START_MS = 500

/** Known addresses are forgotten two weeks after the last meeting: home addresses change about that often. */
export const BOOK_MAX_AGE_MS = 14 * 24 * 3_600_000

/** Peers that stay are noted as met again this often. */
export const BOOK_REFRESH_MS = 3_600_000

/** The book is written at most this often. */
export const BOOK_SAVE_MS = 10_000

/** A peer that does not speak the ring's protocol (a relay, a peer of another job) is asked again after this long. */
export const STRANGER_MS = 60_000

/** Offences on the control stream within that time, after which the peer's streams are refused for as long. */
export const MOST_OFFENCES = 8

/** A relayed connection is given this long to become direct before the control stream settles on it. */
export const HOLE_PUNCH_WAIT_MS = 3_000

/** A control stream that ends while another connection to the peer is open has this long to come back unnoticed. */
export const CHANNEL_GRACE_MS = 2_000

/** Connections that no control channel proves alive are asked this often: relays, the DHT, a peer's second one. */
export const LIFE_CHECK_MS = 30_000

/** The least wait for an answer before a connection counts as dead: an event loop may be busy for seconds. */
export const LIFE_TIMEOUT_MS = 5_000

/** Relays that hold a place for this node: a second one for when the first goes. */
export const RELAY_PLACES = 2

/** Wait between attempts to get a place at a relay. */
export const RELAY_RETRY_MIN_MS = 1_000
export const RELAY_RETRY_MAX_MS = 60_000

/** A connected peer that has not said what it speaks is asked again after this long. */
export const IDENTIFY_AGAIN_MS = 10_000

/** Peers asked to dial back, how often anew, and how long one dial back may take. */
export const REACH_PEERS = 3
export const REACH_EVERY_MS = 15 * 60_000
export const REACH_DIAL_MS = 5_000

/** One peer may have itself dialled back this often, and this many dials back run at once: nobody's hammer. */
export const REACH_PER_PEER_MS = 10_000
export const REACH_CONCURRENT = 4

/** How often a relay looks after its connections to the other relays that it was told of. */
export const REDIAL_OTHERS_MS = 60_000

/** What a relay gives to one node and to all. The protocol's own defaults (128 KiB, 2 minutes) would not carry a round. */
export interface RelayLimits {
  /** nodes that may hold a place at once */
  readonly places: number
  /** open connections in all */
  readonly connections: number
  /** relayed connections to one node at once: a neighbour in the ring and the control streams of the others */
  readonly connectionsPerPlace: number
  /** bytes that one relayed connection may carry, both ways together, before it is cut: about 30 rounds of 256 MB */
  readonly bytesPerConnection: number
  /** ms that one relayed connection may live; the nodes then dial again */
  readonly msPerConnection: number
  /** bytes a second of all relayed connections together, each byte counted once; null for as fast as it goes */
  readonly bytesPerSecond: number | null
}

export const DEFAULT_RELAY_LIMITS: RelayLimits = {
  places: 256,
  connections: 2_048,
  connectionsPerPlace: 300,
  bytesPerConnection: 16 * 1024 ** 3,
  msPerConnection: 24 * 3_600_000,
  bytesPerSecond: null,
}

/** What a relay lets an end send ahead on one stream: what it must keep in memory while that stream is paused. */
export const RELAY_STREAM_WINDOW_BYTES = 2 * 1024 * 1024

/** Bytes of news about peers in one message: what strangers make a node pass on must not look like a flood from it. */
export const NEWS_BYTES = 32 * 1024

/** Dials of known peers at once, fewer than libp2p's own limit: a dial that waits there runs out of time. */
export const TARGET_DIALS = 24

/** Of these, dials of peers that others spoke of and nobody here has met. */
export const HEARSAY_DIALS = 8

/** With more peers to dial than this, those that are not in the ring wait as long as hearsay does. */
export const FEW_TARGETS = 64

/** Who may speak of a peer that has not spoken for itself, and addresses taken from each: both fill memory. */
export const HEARSAY_TELLERS = 4
export const HEARSAY_ADDRESSES = 8

/** Longest wait between dials of a peer that others spoke of and nobody here has met: their lies must cost little. */
export const HEARSAY_REDIAL_MAX_MS = 60_000

/** Requests of others that wait for a slot, for each slot: a validator of each neighbour, and room for some who only hold on. */
export const REQUESTS_WAITING_PER_SLOT = 4

/** Time that a request has while others wait, whatever its pace, ms: a handshake and its first bytes over a slow path. */
export const REQUEST_GRACE_MS = 10_000

/** Least pace of a request while others wait, bytes per second: half a Mbit/s, the slowest uplink that trains at all. */
export const REQUEST_LEAST_PACE = 64 * 1024

/** Time between two looks at requests that are answered while others wait, ms. */
export const REQUEST_LOOK_MS = 1_000

/** Dials of a bootstrap address that never answered before its operator is told, about 8 s after the start. */
export const BOOTSTRAP_PATIENCE = 5
