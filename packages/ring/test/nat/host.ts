/** What runs in a host of the NAT tests: a relay, or a ring node that sums a vector. Speaks JSON lines on stdout. */
import { createRelay, createRing, type NetworkOptions, type RingStatus } from '../../src/index.ts'
import { identityOf, loggerFor, MemoryStore, ToyState } from '../rig.ts'

/** The one argument, as JSON. */
export type HostConfig =
  | { readonly kind: 'relay'; readonly n: number; readonly port: number; readonly swarmKey?: string }
  | {
      readonly kind: 'node'
      readonly n: number
      readonly members: number
      readonly port: number
      readonly bootstrap: readonly string[]
      readonly network: NetworkOptions
      /** numbers in the vector */
      readonly length: number
      /** rounds to do before it reports, and waits to be ended */
      readonly rounds: number
    }

/** What a host says. */
export type HostReport =
  | { readonly at: 'listening'; readonly addresses: readonly string[] }
  /** of a relay, when asked by a line on its standard input: bytes carried since its start */
  | { readonly at: 'carried'; readonly bytes: number }
  | {
      readonly at: 'done'
      readonly hash: string
      readonly mean: number
      readonly ms: number
      readonly status: RingStatus
    }

const config = JSON.parse(process.argv[2] ?? '') as HostConfig
const logger = loggerFor(`host ${config.n}`)
const listen = [`/ip4/0.0.0.0/tcp/${config.port}`]
const say = (report: HostReport): void => void process.stdout.write(`${JSON.stringify(report)}\n`)
process.stdin.on('end', () => process.exit(0)).resume()

if (config.kind === 'relay') {
  const { swarmKey } = config
  const relay = await createRelay({
    identity: identityOf(config.n),
    listen,
    logger,
    ...(swarmKey === undefined ? {} : { swarmKey }),
  })
  await relay.start()
  say({ at: 'listening', addresses: relay.addresses })
  process.stdin.on('data', () => say({ at: 'carried', bytes: relay.status.traffic.bytes }))
} else {
  const state = new ToyState()
  const ring = await createRing({
    identity: identityOf(config.n),
    job: 'nat',
    listen,
    bootstrap: config.bootstrap,
    mdns: false,
    network: config.network,
    minMembers: config.members,
    quorum: 'majority',
    peerTimeoutMs: 3000,
    wire: 'f32',
    integrity: 'sealed',
    state,
    store: new MemoryStore(),
    logger,
  })
  await ring.start()
  say({ at: 'listening', addresses: ring.addresses })
  for (let round = 1, ms = 0; round <= config.rounds; round += 1) {
    await ring.ready()
    const vector = new Float32Array(config.length).fill(config.n)
    const result = await ring.allReduce(vector, { round, weight: 1 })
    ms += result.durationMs
    state.apply(round, result.hash)
    if (round < config.rounds) continue
    const hash = Buffer.from(result.hash).toString('hex')
    say({
      at: 'done',
      hash,
      mean: result.mean[config.length - 1] ?? NaN,
      ms: ms / round,
      status: ring.status,
    })
  }
}
