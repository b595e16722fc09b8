/** The configurations of a local ring's daemons, as plain objects for their YAML files. Pure. */
import { sha3_256 } from '@gym-node/wire'
import { mergeObjects } from '../config/load.ts'
import type { RingOrder } from './options.ts'

/** The configuration of node `index`. */
export function nodeConfig(
  order: RingOrder,
  index: number,
  bootstrap: readonly string[],
  stateDir: string,
): object {
  // Audited nodes draw by their identity: a validator expects one seed for all, or each worker's own.
  const seed = order.hasValidator ? null : nodeSeed(order.seed, index)
  const own = { train: { ...order.train, rounds: order.rounds, seed } }
  return { ...mergeObjects({ ...shared(order, bootstrap), ...own }, order.settings), state_dir: stateDir }
}

/** The configuration of the validator: the same job, looked at often, since a round of a local ring is short. */
export function validatorConfig(order: RingOrder, bootstrap: readonly string[], stateDir: string): object {
  const own = {
    role: 'validator',
    train: { ...order.train, rounds: order.rounds, seed: null },
    validator: { poll_interval_ms: 500, min_witnesses: Math.min(2, order.nodes) },
  }
  return { ...mergeObjects({ ...shared(order, bootstrap), ...own }, order.settings), state_dir: stateDir }
}

function shared({ nodes }: RingOrder, bootstrap: readonly string[]) {
  return {
    job: 'local-ring',
    log: { format: 'json' },
    ring: {
      listen: ['/ip4/127.0.0.1/tcp/0'],
      bootstrap,
      mdns: false,
      min_members: nodes,
      quorum: nodes === 2 ? 'any' : 'majority',
    },
    // On one machine everybody is found through the first, and nobody is asked for the way out.
    network: { dht: 'off', relay: 'off', hole_punching: false, reachability: false },
    http: { port: 0 },
  }
}

/** A seed of its own for each node, so that no two sample alike; a function of --seed, so that a run can be repeated. */
function nodeSeed(seed: number, index: number): number {
  return Buffer.from(sha3_256(Buffer.from(`gym-ring-seed-v1\0${seed}\0${index}`))).readUInt32LE(0)
}
