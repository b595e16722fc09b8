/** Makes a ring node: checks the options, loads and builds libp2p, opens nothing. */
import { DIAL_TIMEOUT_MS } from './defaults.ts'
import { checkOptions } from './options.ts'
import { RingNode } from './ring.ts'
import type { Ring, RingOptions } from './types.ts'

/** Builds a ring node; nothing is opened before `start`. Throws RingError BAD_ARGUMENT. */
export async function createRing(options: RingOptions): Promise<Ring> {
  checkOptions(options)
  const { buildNode } = await import('./net/libp2p-node.ts')
  return new RingNode(options, await buildNode({ ...options, dialTimeoutMs: DIAL_TIMEOUT_MS }))
}
