/** Makes a ring node: checks the options, loads and builds libp2p, opens nothing. */
import { DEFAULT_LIMITS } from './defaults.ts'
import { NetCounters } from './net/net-counters.ts'
import { checkOptions } from './options.ts'
import { RingNode } from './ring.ts'
import type { Ring, RingOptions } from './types.ts'

/** Builds a ring node; nothing is opened before `start`. Throws RingError BAD_ARGUMENT or BAD_SWARM_KEY. */
export async function createRing(options: RingOptions): Promise<Ring> {
  checkOptions(options)
  const { buildNode } = await import('./net/libp2p-node.ts')
  const counters = new NetCounters()
  const built = await buildNode({
    identity: options.identity,
    listen: options.listen,
    mdns: options.mdns,
    network: options.network ?? {},
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    isDenied: (peer) => options.deny?.includes(peer) === true,
    counters,
  })
  return new RingNode(options, built, counters)
}
