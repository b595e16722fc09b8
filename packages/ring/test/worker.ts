/**
 * A ring member as a process of its own: loops through rounds, checks every mean, reports over IPC. Run by
 * process-rig.ts; configured by one JSON argument.
 */
import { existsSync, readFileSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import net from 'node:net'
import { createRing, RingError, type RingOptions } from '../src/index.ts'
import { identityOf, loggerFor, ToyState } from './rig.ts'

export interface WorkerConfig {
  readonly node: number
  readonly dir: string
  readonly length: number
  /** ms of pretended training between rounds */
  readonly thinkMs: number
  readonly bootstrap: readonly string[]
  readonly ring: Partial<RingOptions> & { minMembers: number }
}

export type WorkerReport =
  | { readonly at: 'listening'; readonly peerId: string; readonly addresses: readonly string[] }
  | { readonly at: 'reducing'; readonly round: number }
  | {
      readonly at: 'round'
      readonly round: number
      readonly hash: string
      readonly epoch: number
      readonly members: readonly string[]
      readonly attempts: number
    }
  | { readonly at: 'adopted'; readonly round: number }
  | { readonly at: 'failed'; readonly message: string }

/**
 * What a worker can be told over IPC: to leave; to give the round in progress up; to flip a bit in the next large write
 * to the network; to move its wall clock by an hour.
 */
export type WorkerOrder = 'leave' | 'cancel' | 'corrupt' | 'skew'

const config = JSON.parse(process.argv[2] ?? '') as WorkerConfig
const statePath = `${config.dir}/state.json`
const identities = Array.from({ length: 16 }, (_, n) => identityOf(n).peerId)

function report(value: WorkerReport): void {
  process.send?.(value)
}

/** Old or new, never a mix; on disk before it resolves. */
async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(`${path}.new`, 'w')
  await file.writeFile(bytes)
  await file.sync()
  await file.close()
  await rename(`${path}.new`, path)
}

const read = (path: string): Uint8Array | null => (existsSync(path) ? readFileSync(path) : null)

/** Element k of node n's vector in a round: small integers, so that every sum is exact. */
export function element(n: number, round: number, k: number): number {
  return (n + 1) * ((k + round) % 5)
}

class FileState extends ToyState {
  async save(): Promise<void> {
    await writeDurably(statePath, this.bytes())
  }
  override async adopt(bytes: Uint8Array): Promise<void> {
    await super.adopt(bytes)
    await this.save()
    report({ at: 'adopted', round: this.round })
  }
}

const state = new FileState()
const saved = read(statePath)
if (saved !== null) await ToyState.prototype.adopt.call(state, saved)

const ring = await createRing({
  identity: identityOf(config.node),
  job: 'processes',
  listen: ['/ip4/127.0.0.1/tcp/0'],
  bootstrap: config.bootstrap,
  mdns: false,
  quorum: 'majority',
  peerTimeoutMs: 2000,
  wire: 'f32',
  integrity: 'sealed',
  state,
  store: {
    load: async () => read(`${config.dir}/view`),
    save: (bytes) => writeDurably(`${config.dir}/view`, bytes),
    loadResult: async () => read(`${config.dir}/result`),
    saveResult: (bytes) => writeDurably(`${config.dir}/result`, bytes),
  },
  logger: loggerFor(`node${config.node}`),
  ...config.ring,
})

let leaving = false
let round: AbortController | null = null
const CANCELLED = new Error('cancelled')
process.on('disconnect', () => process.exit(0)) // goes with the test, however that ends
process.on('message', (order: WorkerOrder) => {
  switch (order) {
    case 'leave':
      leaving = true
      void ring.stop().then(() => process.exit(0))
      break
    case 'cancel':
      round?.abort(CANCELLED)
      break
    case 'corrupt':
      corruptNextWrite()
      break
    case 'skew': {
      const now = Date.now.bind(Date)
      Date.now = () => now() + 3_600_000
      break
    }
  }
})

/** One bit of the next write of more than 1000 bytes arrives changed, whatever it belongs to. */
function corruptNextWrite(): void {
  const prototype = net.Socket.prototype
  // eslint-disable-next-line @typescript-eslint/unbound-method -- it is put back, and called on the socket
  const write = prototype.write
  prototype.write = function (this: net.Socket, chunk: unknown, ...rest: unknown[]) {
    if (!(chunk instanceof Uint8Array) || chunk.byteLength < 1000) {
      return Reflect.apply(write, this, [chunk, ...rest]) as boolean
    }
    prototype.write = write
    const changed = Buffer.from(chunk)
    changed[500] = (changed[500] ?? 0) ^ 4
    return Reflect.apply(write, this, [changed, ...rest]) as boolean
  }
}

await ring.start()
report({ at: 'listening', peerId: ring.peerId, addresses: ring.addresses })

async function oneRound(): Promise<void> {
  await ring.ready()
  if (config.thinkMs > 0) await new Promise((resolve) => setTimeout(resolve, config.thinkMs))
  const next = state.round + 1
  const vector = Float32Array.from({ length: config.length }, (_, k) => element(config.node, next, k))
  report({ at: 'reducing', round: next })
  round = new AbortController()
  const result = await ring.allReduce(vector, { round: next, weight: 1, signal: round.signal })
  const nodes = result.contributors.map((peer) => identities.indexOf(peer))
  for (let k = 0; k < config.length; k += 97) {
    const expected = Math.fround(nodes.reduce((sum, n) => sum + element(n, next, k), 0) / nodes.length)
    if (result.mean[k] !== expected) {
      throw new Error(`round ${next}, element ${k} is ${result.mean[k]}, expected ${expected}`)
    }
  }
  state.apply(next, result.hash)
  await state.save()
  const hash = Buffer.from(result.hash).toString('hex')
  const { epoch, members } = result.view
  report({ at: 'round', round: next, hash, epoch, members, attempts: result.attempts })
}

while (!leaving) {
  try {
    await oneRound()
  } catch (thrown) {
    const isRetry = thrown instanceof RingError && ['ROUND_SUPERSEDED', 'OUT_OF_SYNC'].includes(thrown.code)
    if (isRetry || thrown === CANCELLED) continue
    if (thrown instanceof RingError && thrown.code === 'STOPPED') break
    report({ at: 'failed', message: String(thrown) })
    break
  }
}
