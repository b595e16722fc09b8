/** Finding each other without a common address: relay, DHT, known peers, private networks; real nodes on loopback. */
import { existsSync, readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import {
  createRelay,
  createSwarmKey,
  RingError,
  type BookStore,
  type NetworkOptions,
  type Relay,
  type RelayLimits,
  type RingLogger,
} from '../src/index.ts'
import { LOOPBACK, until, withoutPeer } from './net-rig.ts'
import { deadline, identityOf, loggerFor, startNode, stopAll, type RigNode } from './rig.ts'

const RELAY = 90

async function startRelay(
  options: { swarmKey?: string; deny?: string[]; limits?: Partial<RelayLimits> } = {},
): Promise<Relay> {
  const relay = await createRelay({
    identity: identityOf(RELAY),
    listen: LOOPBACK,
    logger: loggerFor('relay'),
    ...options,
  })
  await relay.start()
  return relay
}

/** Every node contributes n + 1; resolves with the means, which must be the same everywhere. */
async function oneRound(nodes: readonly RigNode[], signal: AbortSignal): Promise<number[]> {
  return Promise.all(
    nodes.map(async ({ ring, state }, n) => {
      await ring.ready({ signal })
      const round = state.round + 1
      const result = await ring.allReduce(Float32Array.of(n + 1), { round, weight: 1, signal })
      state.apply(round, result.hash)
      return result.mean[0] ?? NaN
    }),
  )
}

class MemoryBook implements BookStore {
  bytes: Uint8Array | null = null
  async load(): Promise<Uint8Array | null> {
    return this.bytes
  }
  async save(bytes: Uint8Array): Promise<void> {
    this.bytes = bytes
  }
}

/** Why mDNS cannot work on this machine, or false. */
function multicastRefusal(): string | false {
  const group = '224.0.0.251'
  const all = Object.values(networkInterfaces()).flat()
  if (!all.some((one) => one?.internal === false && one.family === 'IPv4')) return 'no network interface'
  const routes = existsSync('/proc/net/route') ? readFileSync('/proc/net/route', 'utf8') : null
  return routes?.includes('\t00000000\t') === false ? `no route to ${group}` : false
}

describe('the DHT', () => {
  it('brings peers of a job together that share nothing but a relay, and keeps another job out', async () => {
    const relay = await startRelay()
    const network: NetworkOptions = { dht: 'client' }
    // Without its peer id, as people write addresses down.
    const bootstrap = relay.addresses.map(withoutPeer)
    const nodes = await Promise.all(
      [1, 2].map((n) => startNode(n, { minMembers: 2, bootstrap, network, job: 'sums' })),
    )
    const other = await startNode(3, { minMembers: 2, bootstrap, network, job: 'products' })
    try {
      const signal = deadline([...nodes, other])
      assert.deepEqual(await oneRound(nodes, signal), [1.5, 1.5])
      const found = nodes.map(({ ring }) => ring.status.network.found)
      assert.ok(found.some(({ dht }) => dht === 1))
      assert.deepEqual(other.ring.peers(), [])
    } finally {
      await stopAll([...nodes, other])
      await relay.stop()
    }
  })
})

/** Two nodes that nobody can dial: nothing of theirs listens for TCP, so whoever talks to them comes through the relay. */
async function startBehind(relay: Awaited<ReturnType<typeof startRelay>>): Promise<RigNode[]> {
  const network: NetworkOptions = { dht: 'client', relay: 'always' }
  const bootstrap = [...relay.addresses]
  return Promise.all([1, 2].map((n) => startNode(n, { minMembers: 2, bootstrap, network, listen: [] })))
}

describe('a relay', () => {
  it('carries a round between nodes that cannot dial each other', async () => {
    const relay = await startRelay()
    const nodes = await startBehind(relay)
    try {
      const signal = deadline(nodes)
      assert.deepEqual(await oneRound(nodes, signal), [1.5, 1.5])
      // One place is enough for the round: the other node may get its own a moment later.
      await until(() => nodes.every(({ ring }) => ring.status.network.reservations === 1), signal)
      assert.equal(relay.status.reservations, 2)
      for (const { ring } of nodes) {
        assert.ok(ring.addresses.every((address) => address.includes('/p2p-circuit/')))
        assert.equal(ring.status.network.reservations, 1)
        assert.ok(ring.status.network.relayedConnections >= 1)
        assert.equal(ring.status.counters.linksDirect, 0)
      }
    } finally {
      await stopAll(nodes)
      await relay.stop()
    }
  })

  it('holds all that it carries to its rate, and loses nothing of it', async () => {
    // Over 1 MB is carried at 1 MB a second, a quarter of a second of it at once: some must wait.
    const relay = await startRelay({ limits: { bytesPerSecond: 1_000_000 } })
    const nodes = await startBehind(relay)
    try {
      const signal = deadline(nodes)
      const means = await Promise.all(
        nodes.map(async ({ ring }, n) => {
          await ring.ready({ signal })
          const vector = new Float32Array(125_000).fill(n + 1)
          return (await ring.allReduce(vector, { round: 1, weight: 1, signal })).mean
        }),
      )
      for (const mean of means) assert.ok(mean.every((value) => value === 1.5))
      const { bytes, pauses, streams } = relay.status.traffic
      // Two members, each sends its whole vector in halves.
      assert.ok(bytes > 2 * 125_000 * 4, `${bytes} bytes`)
      assert.ok(pauses > 0 && streams >= 2, `${pauses} pauses, ${streams} streams`)
    } finally {
      await stopAll(nodes)
      await relay.stop()
    }
  })

  it('takes its nodes in again after it was away', async () => {
    const first = await startRelay()
    const listen = first.addresses.map(withoutPeer)
    const node = await startNode(1, {
      minMembers: 1,
      bootstrap: listen,
      listen: [],
      network: { relay: 'always' },
    })
    let second: Relay | null = null
    try {
      const signal = deadline([node])
      await until(() => node.ring.status.network.reservations === 1, signal)
      await first.stop()
      await until(() => node.ring.status.network.reservations === 0, signal)
      second = await createRelay({ identity: identityOf(RELAY), listen, logger: loggerFor('relay') })
      await second.start()
      await until(() => node.ring.status.network.reservations === 1, signal)
      assert.equal(second.status.reservations, 1)
    } finally {
      await stopAll([node])
      await second?.stop()
    }
  })

  it('does not serve a denied peer', async () => {
    const denied = identityOf(1).peerId
    const relay = await startRelay({ deny: [denied] })
    const node = await startNode(1, {
      minMembers: 1,
      bootstrap: relay.addresses,
      listen: [],
      network: { relay: 'always' },
    })
    try {
      await until(() => (relay.status.limits.denied ?? 0) >= 2, deadline([node]))
      assert.equal(relay.status.reservations, 0)
      assert.equal(node.ring.status.network.reservations, 0)
    } finally {
      await stopAll([node])
      await relay.stop()
    }
  })
})

describe('known peers', () => {
  it('find the ring again without any bootstrap peer', async () => {
    const books = [new MemoryBook(), new MemoryBook()] as const
    const first = await startNode(1, { minMembers: 2, network: { book: books[0] } })
    const listen = first.ring.addresses.map(withoutPeer)
    const second = await startNode(2, {
      minMembers: 2,
      bootstrap: first.ring.addresses,
      network: { book: books[1] },
    })
    await second.ring.ready({ signal: deadline([first, second]) })
    await stopAll([first, second])

    const again = await Promise.all([
      startNode(1, { minMembers: 2, listen, network: { book: books[0] } }),
      startNode(2, { minMembers: 2, network: { book: books[1] } }),
    ])
    try {
      assert.deepEqual(await oneRound(again, deadline(again)), [1.5, 1.5])
      assert.equal(again[1]?.ring.status.network.found.book, 1)
    } finally {
      await stopAll(again)
    }
  })
})

describe('mDNS', () => {
  const refusal = multicastRefusal()
  it('finds a peer on the local network', { skip: refusal }, async () => {
    const options = { minMembers: 2, mdns: true, listen: ['/ip4/0.0.0.0/tcp/0'] }
    const nodes = await Promise.all([1, 2].map((n) => startNode(n, options)))
    try {
      assert.deepEqual(await oneRound(nodes, deadline(nodes)), [1.5, 1.5])
      assert.ok(nodes.some(({ ring }) => ring.status.network.found.mdns === 1))
    } finally {
      await stopAll(nodes)
    }
  })
})

describe('a private network', () => {
  it('lets nobody in without its key, and tells those outside why', async () => {
    const swarmKey = createSwarmKey()
    const inside = await startNode(1, { minMembers: 2, network: { swarmKey } })
    const warnings: string[] = []
    const logger: RingLogger = {
      ...loggerFor('outside'),
      warn: (_fields, message) => void warnings.push(message),
    }
    const bootstrap = inside.ring.addresses
    const keyless = await startNode(2, { minMembers: 2, bootstrap, logger })
    const wrong = await startNode(3, {
      minMembers: 2,
      bootstrap,
      logger,
      network: { swarmKey: createSwarmKey() },
    })
    const friend = await startNode(4, { minMembers: 2, bootstrap, network: { swarmKey } })
    try {
      const signal = deadline([inside, keyless, wrong, friend])
      assert.deepEqual(await oneRound([inside, friend], signal), [1.5, 1.5])
      for (const part of ['not one of a private network', 'same swarm key']) {
        await until(() => warnings.some((text) => text.includes(part)), signal)
      }
      assert.deepEqual([...keyless.ring.peers(), ...wrong.ring.peers()], [])
      await until(() => inside.ring.peers().length > 0, signal)
      assert.deepEqual(inside.ring.peers(), [friend.ring.peerId])
    } finally {
      await stopAll([inside, keyless, wrong, friend])
    }
  })

  it('refuses a file that is no swarm key by name', async () => {
    for (const swarmKey of ['', 'secret', createSwarmKey().slice(0, -3), `${createSwarmKey()}more`]) {
      await assert.rejects(
        startNode(1, { minMembers: 1, network: { swarmKey } }),
        (error) => error instanceof RingError && error.code === 'BAD_SWARM_KEY',
      )
    }
  })
})

describe('allow and deny', () => {
  it('keep others out of the ring, and a denied peer from connecting at all', async () => {
    const [a, b, c, d] = [1, 2, 3, 4].map((n) => identityOf(n).peerId) as [string, string, string, string]
    const first = await startNode(1, { minMembers: 2, allow: [b, d], deny: [d] })
    const bootstrap = first.ring.addresses
    const [friend, stranger, denied] = await Promise.all(
      [2, 3, 4].map((n) => startNode(n, { minMembers: 2, bootstrap, allow: [a, b, c, d] })),
    )
    assert.ok(friend !== undefined && stranger !== undefined && denied !== undefined)
    const all = [first, friend, stranger, denied]
    try {
      const signal = deadline(all)
      await until(() => first.ring.status.network.limits.denied > 0, signal)
      await until(
        () =>
          (first.ring.status.counters.rejected.PEER_DENIED ?? 0) > 0 ||
          stranger.ring.status.network.connections > 0,
        signal,
      )
      await until(() => friend.ring.peers().includes(a) && first.ring.peers().length > 0, signal)
      assert.deepEqual(first.ring.peers(), [b])
      assert.ok(!stranger.ring.peers().includes(a))
      assert.ok(!denied.ring.peers().includes(a))
    } finally {
      await stopAll(all)
    }
  })
})

describe('deny', () => {
  it('puts a member out of a running ring as soon as the others name it', async () => {
    const denied: string[] = []
    const options = { minMembers: 3, deny: denied, peerTimeoutMs: 1000 }
    const first = await startNode(1, options)
    const rest = [2, 3].map((n) => startNode(n, { ...options, bootstrap: first.ring.addresses }))
    const [second, third] = await Promise.all(rest)
    assert.ok(second !== undefined && third !== undefined)
    const all = [first, second, third]
    try {
      const signal = deadline(all)
      assert.equal(new Set(await oneRound(all, signal)).size, 1)
      // The same list stands at the denied node, which cannot deny itself.
      denied.push(third.ring.peerId)
      await until(() => [first, second].every(({ ring }) => ring.view?.members.length === 2), signal)
      assert.deepEqual(await oneRound([first, second], signal), [1.5, 1.5])
      await until(
        () => [first, second].every(({ ring }) => !ring.peers().includes(third.ring.peerId)),
        signal,
      )
      assert.equal(third.state.round, 1)
    } finally {
      await stopAll(all)
    }
  })
})

describe('reachability', () => {
  it('is decided by peers that dial back', async () => {
    const listen = ['/ip4/0.0.0.0/tcp/0']
    const network: NetworkOptions = { reachability: true }
    const first = await startNode(1, { minMembers: 2, listen, network })
    const second = await startNode(2, { minMembers: 2, listen, network, bootstrap: first.ring.addresses })
    try {
      const signal = deadline([first, second])
      await until(
        () => [first, second].every(({ ring }) => ring.status.network.reachability === 'local'),
        signal,
      )
      assert.match(first.ring.status.network.seen, /dialled back by 1 of 1 peers/)
    } finally {
      await stopAll([first, second])
    }
  })
})
