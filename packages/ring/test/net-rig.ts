/** Bare libp2p nodes as the ring builds them, for tests of what happens below the ring. */
import { multiaddr } from '@multiformats/multiaddr'
import type { Libp2p } from '@libp2p/interface'
import type { Identity } from '@gym-node/wire'
import { DEFAULT_LIMITS } from '../src/defaults.ts'
import { buildNode } from '../src/net/libp2p-node.ts'
import { NetCounters } from '../src/net/net-counters.ts'
import { startNode } from '../src/net/start-node.ts'
import type { NetworkOptions } from '../src/index.ts'

export const LOOPBACK = ['/ip4/127.0.0.1/tcp/0']

/** A started node on loopback that speaks libp2p and nothing of the ring. */
export async function startBareNode(identity: Identity, network: NetworkOptions = {}): Promise<Libp2p> {
  const { node } = await buildNode({
    identity,
    listen: LOOPBACK,
    mdns: false,
    network,
    limits: DEFAULT_LIMITS,
    isDenied: () => false,
    counters: new NetCounters(),
  })
  await startNode(node, LOOPBACK)
  return node
}

/** An address without its trailing /p2p part, as people pass them on. */
export function withoutPeer(address: string): string {
  return multiaddr(address)
    .toString()
    .replace(/\/p2p\/[^/]+$/, '')
}

/** Resolves when `condition` holds, looking again after every turn of 20 ms; rejects when the signal aborts. */
export async function until(condition: () => boolean | Promise<boolean>, signal: AbortSignal): Promise<void> {
  while (!(await condition())) {
    signal.throwIfAborted()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
