/** The section `network` of the configuration: how the ring looks for others and lets itself be found. */
import { multiaddr } from '@multiformats/multiaddr'
import { z } from 'zod'

/** The peer id of an Ed25519 key, which all nodes and relays have. */
const PEER_ID = /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/

/** A multiaddr as text. */
export const multiaddrText = z
  .string()
  .refine(isMultiaddr, {
    error: 'not a multiaddr; expected something like /ip4/203.0.113.7/tcp/4160',
    abort: true,
  })
  .refine(hasWholePeerId, { error: 'the peer id after /p2p/ is not whole; `gym-node status` prints one' })

const peerId = z.string().regex(PEER_ID, { error: 'not a peer id; `gym-node status` prints one' })

/** Keys of the section whose values are paths. */
export const NETWORK_PATH_KEYS: readonly string[] = ['network.swarm_key_file']

/** The section, with the default of every key. */
export const networkConfigSchema = z.strictObject({
  dht: z
    .enum(['auto', 'client', 'server', 'off'])
    .default('auto')
    .describe(
      'Meet peers of the same job in a distributed hash table that any gym node or relay leads into. client asks; server also answers others; auto answers once this node is known to be reachable from outside.',
    ),
  relay: z
    .enum(['auto', 'always', 'off'])
    .default('auto')
    .describe(
      'Be reached through a relay, and dial peers behind one. auto takes a place at a relay only while others cannot dial this node.',
    ),
  relays: z
    .array(multiaddrText)
    .default([])
    .describe(
      'Relays to use, as multiaddrs (`gym-node relay` runs one). Other relays that this node is connected to serve as well.',
    ),
  hole_punching: z
    .boolean()
    .default(true)
    .describe('Turn a relayed connection into a direct one where both NATs allow it.'),
  reachability: z
    .boolean()
    .default(true)
    .describe('Ask peers to dial back at start, say in the log whether they could, and dial back others.'),
  announce: z
    .array(multiaddrText)
    .default([])
    .describe('Addresses to tell others besides those listened on: a forwarded port, a DNS name.'),
  known_peers: z
    .boolean()
    .default(true)
    .describe(
      'Keep addresses of peers that were met in the state folder and dial these first at the next start.',
    ),
  swarm_key_file: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe(
      'Key of a private network, as `gym-node swarm-key` writes it: nodes without the same key cannot connect at all.',
    ),
  allow: z
    .array(peerId)
    .min(1)
    .nullable()
    .default(null)
    .describe(
      'Peer ids that may take part; null lets everybody. Relays and the hash table need not be in it.',
    ),
  deny: z.array(peerId).default([]).describe('Peer ids that this node has no connection with at all.'),
})

/** The section as read. */
export type NetworkConfig = z.infer<typeof networkConfigSchema>

function isMultiaddr(text: string): boolean {
  try {
    multiaddr(text)
    return true
  } catch {
    return false // the refinement's message says what was expected
  }
}

/** A peer id that lost its end is a valid multiaddr, and dials nobody. */
function hasWholePeerId(text: string): boolean {
  return multiaddr(text)
    .getComponents()
    .every(({ name, value }) => name !== 'p2p' || PEER_ID.test(value ?? ''))
}
