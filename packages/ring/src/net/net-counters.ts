/** Counts what happens between this node and the network, under fixed names: they become metric labels. Pure. */

/** How a peer of the job was first heard of. */
export const PEER_SOURCES = ['bootstrap', 'book', 'mdns', 'dht', 'peer', 'inbound'] as const
export type PeerSource = (typeof PEER_SOURCES)[number]

/** Why a dial failed. */
export const DIAL_FAILURES = [
  'refused',
  'timeout',
  'unreachable',
  'handshake',
  'wrong_peer',
  'denied',
  'relay',
  'name',
  'other',
] as const
export type DialFailure = (typeof DIAL_FAILURES)[number]

/** A limit that a peer ran into. */
export const NET_LIMITS = [
  'denied',
  'connections',
  'connections_per_peer',
  'dial_backs',
  'known_peers',
  'offences',
] as const
export type NetLimit = (typeof NET_LIMITS)[number]

/** Counters since start; they only grow. */
export class NetCounters {
  readonly found: Record<PeerSource, number> = zeros(PEER_SOURCES)
  readonly dialFailures: Record<DialFailure, number> = zeros(DIAL_FAILURES)
  readonly limits: Record<NetLimit, number> = zeros(NET_LIMITS)
  dials = 0
  holePunches = 0

  /** A limit was hit once more. */
  hit(limit: NetLimit): void {
    this.limits[limit] += 1
  }

  /** A dial failed; returns why. */
  failed(thrown: unknown): DialFailure {
    const why = classifyDialFailure(thrown)
    this.dialFailures[why] += 1
    return why
  }
}

/** Why a dial failed, from what libp2p threw: names of libp2p's errors and codes of Node's. */
export function classifyDialFailure(thrown: unknown): DialFailure {
  const texts = [...namesOf(thrown, 0)].join(' ')
  const first = RULES.find(([, pattern]) => pattern.test(texts))
  return first?.[0] ?? 'other'
}

const RULES: readonly (readonly [DialFailure, RegExp])[] = [
  ['denied', /DialDenied|ConnectionIntercepted/],
  ['wrong_peer', /UnexpectedPeer/],
  ['relay', /failed to connect via relay|LimitExceeded|DurationLimit|TransferLimit/],
  ['name', /ENOTFOUND|EAI_AGAIN|NoAnswer|InvalidMultiaddr|NoValidAddresses|TransportUnavailable/],
  ['refused', /ECONNREFUSED/],
  ['unreachable', /EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL|EACCES/],
  [
    'handshake',
    /EncryptionFailed|InvalidCrypto|UnexpectedEOF|MuxerUnavailable|UnsupportedProtocol|InvalidMessage|InvalidData|ECONNRESET|StreamReset|ConnectionClosed|EPIPE/,
  ],
  ['timeout', /Timeout|ETIMEDOUT|AbortError/],
]

/** Names, codes and messages of an error, those it gathers and its causes, to a depth that no cycle outlives. */
function* namesOf(thrown: unknown, depth: number): Generator<string> {
  if (!(thrown instanceof Error) || depth > 4) return
  yield thrown.name
  yield thrown.message
  if ('code' in thrown) yield String(thrown.code)
  if (thrown instanceof AggregateError) for (const inner of thrown.errors) yield* namesOf(inner, depth + 1)
  yield* namesOf(thrown.cause, depth + 1)
}

function zeros<K extends string>(keys: readonly K[]): Record<K, number> {
  return Object.fromEntries(keys.map((key) => [key, 0])) as Record<K, number>
}
