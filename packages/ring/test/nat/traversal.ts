/**
 * Nodes behind real NAT: network namespaces with masquerading routers, processes of their own, a relay on the public
 * side. Not part of `npm test`, as it needs root: `npm run test:nat`.
 */
import { createInterface } from 'node:readline'
import type { ChildProcess } from 'node:child_process'
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
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

/** Starts the relay, then a node in each of the hosts; resolves with what they reported. */
async function sumBetween(
  internet: Internet,
  hosts: readonly string[],
  network: NodeConfig['network'],
): Promise<Done[]> {
  internet.addPublicHost('relay', 1)
  await report(internet.start('relay', HOST, { kind: 'relay', n: RELAY, port: RELAY_PORT }), 'listening')
  const common = { kind: 'node', members: hosts.length, port: NODE_PORT, length: LENGTH, rounds: 3 } as const
  return Promise.all(
    hosts.map((host, k) => {
      const config: NodeConfig = { ...common, n: k + 1, bootstrap: [relayAddress], network }
      return report(internet.start(host, HOST, config), 'done')
    }),
  )
}

const ALL_WAYS = { dht: 'client', relay: 'auto', reachability: true } as const

describe('two nodes behind two NATs', { skip: namespaceRefusal() }, () => {
  it('sum vectors through a relay that they know nothing else than', async () => {
    const internet = new Internet()
    try {
      internet.addHostBehindNat('a', 11)
      internet.addHostBehindNat('b', 12)
      // Hole punching is tried and cannot work: it would need dials from the port that is listened on, which
      // libp2p's TCP in JavaScript does not do.
      const done = await sumBetween(internet, ['a', 'b'], { ...ALL_WAYS, holePunching: true })
      for (const { mean, hash, status, ms } of done) {
        assert.equal(mean, 1.5)
        assert.equal(hash, done[0]?.hash)
        assert.equal(status.network.reachability, 'relayed')
        assert.equal(status.network.reservations, 1)
        assert.ok(status.network.relayedConnections >= 1)
        assert.equal(status.counters.linksDirect, 0)
        console.log(`4 MiB all-reduce through the relay: ${ms.toFixed(0)} ms`)
      }
    } finally {
      internet.close()
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
        const done = await sumBetween(internet, ['a', 'b'], { ...ALL_WAYS, relay: 'always', holePunching })
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
