/** One node of the all-reduce benchmark, in a process of its own; told what to do by all-reduce.ts. */
import { createIdentity, generateIdentitySeeds, sha3_256 } from '@gym-node/wire'
import { createRing } from '../create-ring.ts'
import type { BenchWorkerConfig, BenchWorkerReport } from './all-reduce.ts'

const config = JSON.parse(process.argv[2] ?? '') as BenchWorkerConfig
const report = (value: BenchWorkerReport): void => {
  process.send?.(value)
}
process.on('disconnect', () => process.exit(0)) // goes with the benchmark, however that ends
let round = 0
const silent = (): void => undefined
let stored: Uint8Array | null = null

const ring = await createRing({
  identity: createIdentity(generateIdentitySeeds()),
  job: 'bench all-reduce',
  listen: config.listen ?? ['/ip4/127.0.0.1/tcp/0'],
  bootstrap: config.bootstrap,
  mdns: false,
  minMembers: config.nodes,
  quorum: 'majority',
  peerTimeoutMs: 30_000,
  wire: config.wire,
  carrier: config.carrier,
  integrity: config.integrity,
  ...(config.sockets === undefined ? {} : { sockets: config.sockets }),
  state: {
    current: () => ({ round, hash: sha3_256(new TextEncoder().encode(String(round))) }),
    read: async () => new TextEncoder().encode(String(round)),
    adopt: async (_bytes, at) => {
      round = at.round
    },
  },
  store: {
    load: async () => stored,
    save: async (bytes) => {
      stored = bytes
    },
  },
  logger: { debug: silent, info: silent, warn: silent, error: silent },
})

async function oneRun(vector: Float32Array): Promise<void> {
  const cpuBefore = process.cpuUsage()
  const start = performance.now()
  const result = await ring.allReduce(vector, { round: round + 1, weight: 1 })
  const ms = performance.now() - start
  const { user, system } = process.cpuUsage(cpuBefore)
  round += 1
  const hash = Buffer.from(result.hash).toString('hex')
  const rssMb = process.resourceUsage().maxRSS / 1024
  result.release()
  report({ at: 'done', ms, cpuMs: (user + system) / 1000, rssMb, hash })
  await ring.ready()
  report({ at: 'ready' })
}

function vectorOf(length: number): Float32Array {
  const vector = ring.vector(length)
  for (let i = 0; i < length; i++) vector[i] = (i % 1000) / 1000
  return vector
}

async function main(): Promise<void> {
  await ring.start()
  report({ at: 'listening', addresses: ring.addresses })
  const vector = vectorOf((config.megabytes * 1024 * 1024) / 4)
  await ring.ready()
  process.on('message', () => {
    oneRun(vector).catch((thrown: unknown) => report({ at: 'failed', message: String(thrown) }))
  })
  report({ at: 'ready' })
}

main().catch((thrown: unknown) => {
  report({ at: 'failed', message: String(thrown) })
})
