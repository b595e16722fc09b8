/** One seeded run: a ring under random faults, then peace, then the promises are checked. */
import { phaseOf } from '../../src/view/questions.ts'
import { Random } from './random.ts'
import { World, type WorldOptions } from './world.ts'

/** What a run showed. */
export interface RunReport {
  readonly rounds: number
  readonly messages: number
  readonly epochs: number
}

/** Runs the scenario of a seed. Throws with what was violated; the message names the seed. */
export function runScenario(seed: number): RunReport {
  try {
    return scenario(seed)
  } catch (cause) {
    throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
  }
}

function optionsFor(seed: number): WorldOptions {
  const random = new Random(seed * 7919 + 1)
  const nodes = 1 + random.below(6)
  const harsh = random.chance(0.5)
  return {
    seed,
    nodes,
    // More than half: two groups that never met can then not both found a ring.
    minMembers: Math.floor(nodes / 2) + 1 + random.below(nodes - Math.floor(nodes / 2)),
    quorum: 'majority',
    peerTimeoutMs: 1000,
    loss: harsh ? random.between(0, 0.15) : 0,
    duplicate: harsh ? random.between(0, 0.1) : 0,
    reorder: harsh,
    crashAtPersist: random.chance(0.5) ? 0.01 : 0,
    miscompute: random.chance(0.2) ? 0.01 : 0,
    linkFailure: random.chance(0.5) ? 0.05 : 0,
  }
}

function scenario(seed: number): RunReport {
  const world = new World(optionsFor(seed))
  const { random, clock } = world
  const ids = [...world.nodes.keys()]
  for (const id of ids) clock.after(random.between(0, random.chance(0.3) ? 8000 : 300), () => world.start(id))
  const end = 20_000
  const fault = (): void => {
    if (clock.now > end - 2000) return
    injectFault(world, ids)
    clock.after(random.between(200, 4000), fault)
  }
  clock.after(random.between(500, 3000), fault)
  clock.runUntil(end)
  const before = world.oracle.newest

  world.faults = false
  world.heal()
  for (const id of ids) if (world.nodes.get(id)?.isUp === false) world.start(id)
  world.heal()
  const states = (): string[] => ids.map((id) => describe(world, id))
  // Exclusions on accusation last ten timeouts; after twice that, everybody is in and rounds go on.
  clock.runUntil(end + 20_000)
  const middle = world.oracle.newest
  clock.runUntil(end + 30_000)
  const after = world.oracle.newest
  const lagging = [...world.nodes.values()].filter((node) => node.log.length < after - 2)
  if (lagging.length > 0 || after < middle + 10 || middle <= before) {
    throw new Error(`no progress after peace: rounds ${before}, ${middle}, ${after}\n${states().join('\n')}`)
  }
  const epochs = Math.max(...[...world.nodes.values()].map((node) => node.durable.view?.epoch ?? 0))
  return { rounds: after, messages: world.messages, epochs }
}

function injectFault(world: World, ids: readonly string[]): void {
  const { random, clock } = world
  const pick = (): string => ids[random.below(ids.length)]
  const kind = random.below(7)
  if (kind <= 1) {
    const id = pick()
    if (world.nodes.get(id)?.isUp !== true) return
    world.crash(id)
    clock.after(random.between(50, 6000), () => {
      if (world.nodes.get(id)?.isUp === false) world.start(id)
    })
  } else if (kind === 2) {
    const side = new Set(ids.filter(() => random.chance(0.5)))
    const silent = random.chance(0.5)
    for (const a of ids) for (const b of ids) if (side.has(a) && !side.has(b)) world.cut(a, b, silent)
    clock.after(random.between(100, 5000), () => world.heal())
  } else if (kind === 3) {
    const [a, b] = [pick(), pick()]
    if (a !== b) world.cut(a, b, random.chance(0.5))
    clock.after(random.between(100, 5000), () => world.heal())
  } else if (kind === 4) {
    for (const id of ids) {
      if (world.nodes.get(id)?.isUp !== true) continue
      world.crash(id)
      clock.after(random.between(50, 2000), () => {
        if (world.nodes.get(id)?.isUp === false) world.start(id)
      })
    }
  } else if (kind === 5) {
    world.nodes.get(pick())?.withdraw()
  }
}

function describe(world: World, id: string): string {
  const node = world.nodes.get(id)
  const s = node?.machine?.state
  if (node === undefined || s === undefined) return `${id} is down`
  const view = s.durable.view
  return JSON.stringify({
    id,
    phase: phaseOf(s),
    state: s.state.round,
    ring: view?.ringId.slice(0, 6),
    epoch: view?.epoch,
    members: view?.members.map((m) => m.boot),
    boot: s.options.boot,
    start: view?.start.round,
    turn: s.turn && {
      epoch: s.turn.epoch,
      round: s.turn.round,
      done: s.turn.done?.slice(0, 6),
      p: s.turn.prepared,
    },
    contribution: s.contribution?.round,
    flags: { running: s.running, frozen: s.frozen, abandoned: s.abandoned, proposal: s.proposal?.ballot },
    prepared: s.durable.prepared?.round,
    held: s.held?.round,
    committed: s.committed?.round,
    strikes: [...s.strikes],
  })
}
