/**
 * Nodes behind real NAT: network namespaces with masquerading routers, processes of their own, a relay on the public
 * side. Not part of `npm test`, as it needs root: `npm run test:nat`.
 */
import { createInterface } from 'node:readline'
import type { ChildProcess } from 'node:child_process'
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { createSwarmKey } from '../../src/index.ts'
import { identityOf } from '../rig.ts'
import type { HostConfig, HostReport } from './host.ts'
import { Internet, namespaceRefusal } from './namespaces.ts'

const HOST = new URL('./host.ts', import.meta.url)
const RELAY_PORT = 4161
const NODE_PORT = 4160
const RELAY = 90
/** 4 MiB of float32: 32 times what relays carry by default. */
const LENGTH = 1024 * 1024
const DEADLINE_MS = 60_000

type Done = Extract<HostReport, { at: 'done' }>
type NodeConfig = Extract<HostConfig, { kind: 'node' }>

const relayAddress = `/ip4/45.10.0.1/tcp/${RELAY_PORT}/p2p/${identityOf(RELAY).peerId}`

/** The next report of a kind; fails after the deadline, or when the process ends first. */
function report<K extends HostReport['at']>(
  child: ChildProcess,
  at: K,
): Promise<Extract<HostReport, { at: K }>> {
  return new Promise((resolve, reject) => {
    if (child.stdout === null) throw new Error('no output to read')
    const timer = setTimeout(() => reject(new Error(`no '${at}' within ${DEADLINE_MS} ms`)), DEADLINE_MS)
    child.once('exit', (code) => reject(new Error(`ended with ${code} before '${at}'`)))
    createInterface(child.stdout).on('line', (line) => {
      const value = JSON.parse(line) as HostReport
      if (value.at !== at) return
      clearTimeout(timer)
      resolve(value as Extract<HostReport, { at: K }>)
    })
  })
}

interface Summed {
  readonly done: readonly Done[]
  /** bytes that the relay has carried for them */
  readonly relayed: number
}

/** Starts the relay, then a node in each of the hosts; resolves with what they reported. */
async function sumBetween(
  internet: Internet,
  hosts: readonly string[],
  network: NodeConfig['network'],
): Promise<Summed> {
  internet.addPublicHost('relay', 1)
  const relay = internet.start('relay', HOST, {
    kind: 'relay',
    n: RELAY,
    port: RELAY_PORT,
    ...(network.swarmKey === undefined ? {} : { swarmKey: network.swarmKey }),
  })
  await report(relay, 'listening')
  const common = { kind: 'node', members: hosts.length, port: NODE_PORT, length: LENGTH, rounds: 3 } as const
  const done = await Promise.all(
    hosts.map((host, k) => {
      const config: NodeConfig = { ...common, n: k + 1, bootstrap: [relayAddress], network }
      return report(internet.start(host, HOST, config), 'done')
    }),
  )
  const carried = report(relay, 'carried')
  relay.stdin?.write('\n')
  return { done, relayed: (await carried).bytes }
}

const ALL_WAYS = { dht: 'client', relay: 'auto', reachability: true } as const

/** What three rounds of two nodes bring to the relay if they go through it: each sends and gets all of a vector. */
const ROUNDS_BYTES = 3 * 2 * 4 * LENGTH

describe('two nodes behind two NATs', { skip: namespaceRefusal() }, () => {
  it('punch a hole through a relay that they know nothing else than, and the rounds go directly', async () => {
    for (const [a, b, isPrivate] of [
      ['kept', 'kept', false],
      ['moved', 'kept', false],
      ['moved', 'moved', true],
    ] as const) {
      const internet = new Internet()
      try {
        internet.addHostBehindNat('a', 11, a)
        internet.addHostBehindNat('b', 12, b)
        const network = {
          ...ALL_WAYS,
          holePunching: true,
          ...(isPrivate ? { swarmKey: createSwarmKey() } : {}),
        }
        const { done, relayed } = await sumBetween(internet, ['a', 'b'], network)
        for (const { mean, hash, status, ms } of done) {
          assert.equal(mean, 1.5)
          assert.equal(hash, done[0]?.hash)
          assert.equal(status.network.reachability, 'relayed')
          assert.equal(status.network.relayedConnections, 0)
          console.log(
            `NATs ${a} and ${b}: 4 MiB all-reduce ${ms.toFixed(0)} ms, ${relayed} bytes through the relay`,
          )
        }
        assert.ok(relayed < ROUNDS_BYTES / 100, `${relayed} bytes went through the relay`)
      } finally {
        internet.close()
      }
    }
  })

  it('stay on the relay when a NAT gives every destination another port, or when they are told to', async () => {
    for (const [kind, holePunching] of [
      ['varying', true],
      ['kept', false],
    ] as const) {
      const internet = new Internet()
      try {
        internet.addHostBehindNat('a', 11, kind)
        internet.addHostBehindNat('b', 12, kind)
        const { done, relayed } = await sumBetween(internet, ['a', 'b'], { ...ALL_WAYS, holePunching })
        for (const { mean, hash, status, ms } of done) {
          assert.equal(mean, 1.5)
          assert.equal(hash, done[0]?.hash)
          assert.equal(status.network.reachability, 'relayed')
          assert.equal(status.network.reservations, 1)
          assert.ok(status.network.relayedConnections >= 1)
          assert.equal(status.counters.linksDirect, 0)
          console.log(
            `NATs ${kind}: 4 MiB all-reduce ${ms.toFixed(0)} ms, ${relayed} bytes through the relay`,
          )
        }
        assert.ok(relayed >= ROUNDS_BYTES)
      } finally {
        internet.close()
      }
    }
  })
})

describe('a node behind NAT and a public one', { skip: namespaceRefusal() }, () => {
  it('end up with a direct connection, hole punching or not, and the public one knows that it is public', async () => {
    for (const holePunching of [false, true]) {
      const internet = new Internet()
      try {
        internet.addHostBehindNat('a', 11)
        internet.addPublicHost('b', 12)
        const { done } = await sumBetween(internet, ['a', 'b'], {
          ...ALL_WAYS,
          relay: 'always',
          holePunching,
        })
        for (const { mean, status, ms } of done) {
          assert.equal(mean, 1.5)
          console.log(
            `hole punching ${holePunching}: ${status.network.reachability}, ${status.network.relayedConnections} relayed of ${status.network.connections} connections, ${status.counters.linksDirect} direct links, ${ms.toFixed(0)} ms`,
          )
        }
        assert.equal(done[1]?.status.network.reachability, 'public')
        assert.equal(done[0]?.status.network.reachability, 'relayed')
        if (holePunching) assert.equal(done[1]?.status.network.relayedConnections, 0)
      } finally {
        internet.close()
      }
    }
  })
})
