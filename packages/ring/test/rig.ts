/** A small ring in this process over real TCP: nodes with fixed identities, memory stores and a toy shared state. */
import assert from 'node:assert/strict'
import { createIdentity, sha3_256, type Identity } from '@gym-node/wire'
import {
  createRing,
  type Ring,
  type RingLogger,
  type RingOptions,
  type StateProvider,
  type ViewStore,
} from '../src/index.ts'

/** Identity number n, always the same. */
export function identityOf(n: number): Identity {
  const seed = (label: string): Uint8Array => sha3_256(new TextEncoder().encode(`${label} ${n}`))
  return createIdentity({ ed25519: seed('ed25519'), mlDsa87: seed('ml-dsa-87') })
}

/** An identity whose peer id is lower than the node's: of two the lower opens the control stream. */
export function identityBelow(peerId: string): Identity {
  const identity = [2, 3, 4, 5, 6].map(identityOf).find((candidate) => candidate.peerId < peerId)
  assert.ok(identity)
  return identity
}

/** A store that survives a node as a file would. */
export class MemoryStore implements ViewStore {
  bytes: Uint8Array | null = null
  async load(): Promise<Uint8Array | null> {
    return this.bytes
  }
  async save(bytes: Uint8Array): Promise<void> {
    this.bytes = bytes.slice()
  }
}

/** Shared state: the round and the sums of all committed means, as JSON. */
export class ToyState implements StateProvider {
  round = 0
  log: string[] = []
  adopted = 0
  apply(round: number, hash: Uint8Array): void {
    this.round = round
    this.log.push(Buffer.from(hash).toString('hex'))
  }
  bytes(): Uint8Array {
    return new TextEncoder().encode(JSON.stringify({ round: this.round, log: this.log }))
  }
  current(): { round: number; hash: Uint8Array } {
    return { round: this.round, hash: sha3_256(this.bytes()) }
  }
  async read(): Promise<Uint8Array> {
    return this.bytes()
  }
  async adopt(bytes: Uint8Array): Promise<void> {
    const value = JSON.parse(new TextDecoder().decode(bytes)) as { round: number; log: string[] }
    this.round = value.round
    this.log = value.log
    this.adopted += 1
  }
}

const verbose = process.env.RING_TEST_LOG !== undefined
export function loggerFor(name: string): RingLogger {
  const write = (level: string) => (fields: object, message: string) => {
    if (verbose) console.error(performance.now().toFixed(0), name, level, message, fields)
  }
  const debug = process.env.RING_TEST_LOG === '2' ? write('debug') : () => undefined
  return { debug, info: write('info'), warn: write('warn'), error: write('error') }
}

export interface RigNode {
  readonly ring: Ring
  readonly state: ToyState
  readonly store: MemoryStore
  readonly identity: Identity
}

/** Starts node n; give `at` to find others through. */
export async function startNode(
  n: number,
  options: Partial<RingOptions> & { minMembers: number },
  state = new ToyState(),
  store = new MemoryStore(),
): Promise<RigNode> {
  const identity = identityOf(n)
  const ring = await createRing({
    identity,
    job: 'test',
    listen: ['/ip4/127.0.0.1/tcp/0'],
    bootstrap: [],
    mdns: false,
    quorum: 'majority',
    peerTimeoutMs: 2000,
    wire: 'f32',
    integrity: 'sealed',
    state,
    store,
    logger: loggerFor(`node${n}`),
    ...options,
  })
  await ring.start()
  return { ring, state, store, identity }
}

/** Starts `count` nodes that know only the first. */
export async function startRing(count: number, options: Partial<RingOptions> = {}): Promise<RigNode[]> {
  const first = await startNode(0, { minMembers: count, ...options })
  const bootstrap = [...first.ring.addresses]
  const rest = Array.from({ length: count - 1 }, (_, i) =>
    startNode(i + 1, { minMembers: count, bootstrap, ...options }),
  )
  return [first, ...(await Promise.all(rest))]
}

export async function stopAll(nodes: readonly RigNode[]): Promise<void> {
  await Promise.all(nodes.map((node) => node.ring.stop()))
}

/** A signal for every wait of a test: what it aborts with says where each node stood. */
export function deadline(nodes: readonly RigNode[], ms = 60_000): AbortSignal {
  const late = new AbortController()
  const timer = setTimeout(() => {
    const where = nodes.map(({ ring, state }) => {
      const { phase, activeRound, members, counters } = ring.status
      const alive = members.filter((member) => member.alive).length
      const rejected = JSON.stringify(counters.rejected)
      return `${ring.peerId.slice(-6)}: ${phase}, epoch ${ring.view?.epoch ?? 0}, state ${state.round}, active ${activeRound}, ${alive} alive peers, rejected ${rejected}`
    })
    late.abort(new Error(`not within ${ms} ms:\n${where.join('\n')}`))
  }, ms)
  timer.unref()
  return late.signal
}
