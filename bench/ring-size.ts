/**
 * How membership grows with the ring: the real view protocol of N simulated nodes, on a virtual clock. Forms a ring,
 * kills the node that would propose, then a tenth of the rest, and prints time, messages and bytes of each, and the
 * memory that a node's protocol state takes. Run: node --conditions=gym-source bench/ring-size.ts [--nodes 10,100]
 * [--signing ed25519]; a thousand nodes have a million messages on their way at once and need --max-old-space-size=12000.
 */
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { ViewMessage } from '../packages/ring/src/view/messages.ts'
import { PEACEFUL, World } from '../packages/ring/test/sim/world.ts'

/** As the daemon's default. */
const PEER_TIMEOUT_MS = 5000
const STEP_MS = 10
const GIVE_UP_MS = 120_000
/** Length prefix of a control message. */
const PREFIX_BYTES = 4

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '4,10,30,100,300' },
    /** stand-ins for signatures that cost nothing, or Ed25519, whose time shows in the last column */
    signing: { type: 'string', default: 'mac' },
  },
})
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

console.log(
  '| nodes | forms in | messages, KiB a node | proposer lost: new view in | messages, KiB a node | tenth lost: in | messages, KiB a node | KiB of state a node | simulated in |',
)
console.log(`|${' --- |'.repeat(9)}`)
for (const nodes of values.nodes.split(',').map(Number)) measure(nodes)

function measure(nodes: number): void {
  const startedAt = performance.now()
  collect()
  const before = process.memoryUsage().heapUsed
  const world = new World({
    ...PEACEFUL,
    seed: 1,
    nodes,
    minMembers: nodes,
    maxMembers: nodes,
    peerTimeoutMs: PEER_TIMEOUT_MS,
    checkedMessages: 100_000,
    rounds: false,
    signing: values.signing === 'ed25519' ? 'ed25519' : 'mac',
  })
  const traffic = countTraffic(world)
  const ids = [...world.nodes.keys()]
  for (const id of ids) world.start(id)
  const formed = until(world, () => inOneView(world, ids))
  const forming = traffic.take(nodes)
  collect()
  const memory = (process.memoryUsage().heapUsed - before) / nodes / 1024

  const [proposer = '', ...others] = ids
  settle(world, traffic)
  world.crash(proposer)
  const changed = until(world, () => inOneView(world, others))
  const change = traffic.take(nodes)

  const lost = Math.max(1, Math.floor(nodes / 10))
  const rest = others.slice(lost)
  settle(world, traffic)
  for (const id of others.slice(0, lost)) world.crash(id)
  const left = until(world, () => inOneView(world, rest))
  const leaving = traffic.take(nodes)

  const wall = ((performance.now() - startedAt) / 1000).toFixed(1)
  const cells = [nodes, formed, forming, changed, change, left, leaving, memory.toFixed(0), `${wall} s`]
  console.log(`| ${cells.join(' | ')} |`)
}

/** Whether all of `ids`, and nobody else, are in one view. */
function inOneView(world: World, ids: readonly string[]): boolean {
  const first = world.node(ids[0] ?? '').machine?.state.durable.view
  if (first?.members.length !== ids.length) return false
  return ids.every((id) => world.node(id).machine?.state.durable.view?.epoch === first.epoch)
}

/** Runs on until the condition holds; says how long it took. */
function until(world: World, condition: () => boolean): string {
  const from = world.clock.now
  while (!condition()) {
    if (world.clock.now - from > GIVE_UP_MS) return `over ${GIVE_UP_MS / 1000} s`
    world.clock.runUntil(world.clock.now + STEP_MS)
  }
  return `${((world.clock.now - from) / 1000).toFixed(2)} s`
}

/** Lets what was said about the last view arrive, uncounted. */
function settle(world: World, traffic: { take: (nodes: number) => string }): void {
  world.clock.runUntil(world.clock.now + 1000)
  traffic.take(1)
}

function countTraffic(world: World): { take: (nodes: number) => string } {
  // A message to many is one object, sent to one after another.
  let last: { readonly message: ViewMessage; readonly length: number } | null = null
  let messages = 0
  let bytes = 0
  world.network.onSend = (_from, _to, message) => {
    if (last?.message !== message) last = { message, length: PREFIX_BYTES + JSON.stringify(message).length }
    messages += 1
    bytes += last.length
  }
  return {
    take: (nodes) => {
      const text = `${(messages / nodes).toFixed(0)}, ${(bytes / nodes / 1024).toFixed(0)}`
      messages = 0
      bytes = 0
      return text
    },
  }
}
