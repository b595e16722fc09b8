/** One seeded run: a ring under random faults, then peace, then the promises are checked. */
import type { PathClaim } from '../../src/order/order.ts'
import { phaseOf } from '../../src/view/questions.ts'
import { injectFault } from './faults.ts'
import type { HostileMember } from './hostile.ts'
import { at } from './log.ts'
import { Random } from './random.ts'
import { PEACEFUL, World, type WorldOptions } from './world.ts'

/** What a run showed. */
export interface RunReport {
  readonly rounds: number
  readonly messages: number
  readonly epochs: number
  /** views taken over by nodes that could check no more than that somebody signed them */
  readonly onTrust: number
}

/** How long things go wrong, and how long they then go well, in virtual ms. */
const FAULTS_END = 20_000
const QUIET_BEFORE_END = 2_000
const MIDDLE = 40_000
const END = 50_000

/** Nodes that a liar has led away are back later: only after twenty timeouts do they see that the ring is elsewhere. */
const LIES_COST_MS = 40_000

/** Rounds that must be committed between `MIDDLE` and `END`. */
const ROUNDS_OF_PEACE = 10

/** `hostile`: one member lies for as long as there are faults. */
export type ScenarioKind = 'faults' | 'hostile'

/** Runs the scenario of a seed. Throws with what was violated; the message names the seed. */
export function runScenario(
  seed: number,
  kind: ScenarioKind = 'faults',
  onWorld?: (world: World) => void,
): RunReport {
  try {
    const world = new World(kind === 'faults' ? optionsFor(seed) : hostileOptionsFor(seed))
    onWorld?.(world)
    return scenario(world)
  } catch (cause) {
    throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
  }
}

/** What a seed stands for. */
export function optionsFor(seed: number): WorldOptions {
  const random = new Random(seed * 7919 + 1)
  const nodes = 1 + random.below(7)
  const harsh = random.chance(0.5)
  return {
    ...PEACEFUL,
    seed,
    nodes,
    // More than half: two groups that never met can then not both found a ring.
    minMembers: Math.floor(nodes / 2) + 1 + random.below(nodes - Math.floor(nodes / 2)),
    quorum: random.chance(0.15) ? 'any' : seed % 4 === 3 ? 'two-thirds' : 'majority',
    loss: harsh ? random.between(0, 0.15) : 0,
    duplicate: harsh ? random.between(0, 0.1) : 0,
    reorder: harsh,
    crashAtPersist: random.chance(0.5) ? 0.01 : 0,
    miscompute: random.chance(0.2) ? 0.01 : 0,
    linkFailure: random.chance(0.5) ? 0.05 : 0,
    wrongState: random.chance(0.3) ? 0.2 : 0,
    clockSkew: random.chance(0.3) ? 0.1 : 0,
  }
}

/** The same, with a liar among more nodes; with two thirds it can harm nothing, with a majority it may split the ring. */
function hostileOptionsFor(seed: number): WorldOptions {
  const random = new Random(seed * 7919 + 2)
  const nodes = 4 + random.below(4)
  return {
    ...optionsFor(seed),
    nodes,
    minMembers: Math.floor(nodes / 2) + 1 + random.below(nodes - Math.floor(nodes / 2)),
    quorum: random.chance(0.7) ? 'two-thirds' : 'majority',
    hostile: [random.below(nodes)],
  }
}

function scenario(world: World): RunReport {
  const { random, clock } = world
  const ids = [...world.nodes.keys()]
  for (const id of ids) clock.after(random.between(0, random.chance(0.3) ? 8000 : 300), () => world.start(id))
  const fault = (): void => {
    if (clock.now > FAULTS_END - QUIET_BEFORE_END) return
    injectFault(world, ids)
    clock.after(random.between(200, 4000), fault)
  }
  clock.after(random.between(500, 3000), fault)
  if (world.options.seed % 2 === 0) driftPaths(world, ids)
  for (const { hostile } of world.nodes.values()) if (hostile !== null) lie(world, hostile)
  clock.runUntil(FAULTS_END)
  const before = world.oracle.newest

  world.faults = false
  for (const node of world.nodes.values()) node.wake()
  for (const id of ids) world.start(id)
  world.network.heal()
  // Exclusions on accusation last ten timeouts; after twice that, everybody is in and rounds go on.
  const later = world.options.hostile.length > 0 ? LIES_COST_MS : 0
  clock.runUntil(MIDDLE + later)
  const middle = newestLog(world)
  clock.runUntil(END + later)
  if (world.oracle.isOne || world.options.hostile.length === 0) {
    checkProgress(world, before, middle)
    checkOneHistory(world)
  }
  const nodes = [...world.nodes.values()]
  const epochs = Math.max(...nodes.map((node) => node.durable.view?.epoch ?? 0))
  const { onTrust } = world.oracle
  return { rounds: newestLog(world), messages: world.network.messages, epochs, onTrust }
}

/** A liar lies about three times a second. */
function lie(world: World, liar: HostileMember): void {
  world.clock.after(liar.random.between(50, 600), () => {
    if (!world.faults) return
    liar.attack()
    lie(world, liar)
  })
}

/**
 * Nodes measure paths that wander without end and that no two of them agree on, in peace too: whatever they make of it,
 * one order is agreed on a view, and rounds go on. Chance of its own, so that the faults of a seed stay what they are.
 */
function driftPaths(world: World, ids: readonly string[]): void {
  const random = new Random(world.options.seed ^ 0x0de5)
  // Near or far, thin or wide: orders that differ by a third and more, so that one is worth a view.
  const rates = [1, 100, null]
  const look = (): void => {
    const node = world.node(ids[random.below(ids.length)] ?? '')
    const row = (from: string): [string, PathClaim][] =>
      ids
        .filter((id) => id !== from)
        .map((id) => [id, { ms: random.chance(0.5) ? 10 : 200, bytesPerMs: rates[random.below(3)] ?? null }])
    node.post({ on: 'paths', paths: new Map(ids.map((id) => [id, new Map(row(id))])) })
    world.clock.after(random.between(200, 2000), look)
  }
  look()
}

function newestLog(world: World): number {
  return Math.max(...[...world.nodes.values()].map((node) => node.log.round))
}

function checkProgress(world: World, before: number, middle: number): void {
  const after = newestLog(world)
  const lagging = [...world.nodes.values()].filter((node) => node.log.round < after - 2)
  // With quorum any the half with fewer rounds gives its own up, so what anybody once committed is no measure.
  const lost = world.options.quorum !== 'any' && middle <= before
  if (lagging.length === 0 && after >= middle + ROUNDS_OF_PEACE && !lost) return
  const states = [...world.nodes.keys()].map((id) => describe(world, id))
  throw new Error(`no progress after peace: rounds ${before}, ${middle}, ${after}\n${states.join('\n')}`)
}

/** All nodes tell one history, whatever the quorum: it holds every round that was committed under a majority. */
function checkOneHistory(world: World): void {
  const nodes = [...world.nodes.values()]
  const common = Math.min(...nodes.map((node) => node.log.round))
  const histories = new Set(nodes.map((node) => at(node.log, common).hash))
  if (histories.size > 1) throw new Error(`${histories.size} histories of ${common} rounds after peace`)
}

function describe(world: World, id: string): string {
  const node = world.node(id)
  const s = node.machine?.state
  if (s === undefined) return `${id} is down`
  const { view, prepared } = s.durable
  return JSON.stringify({
    id,
    phase: phaseOf(s),
    state: s.state.round,
    ring: view?.ringId.slice(0, 6),
    epoch: view?.epoch,
    members: view?.members.map((m) => m.boot),
    boot: s.boot,
    start: view?.start.round,
    turn: s.turn && { epoch: s.turn.epoch, round: s.turn.round, done: s.turn.done?.slice(0, 6) },
    contribution: s.contribution?.round,
    flags: { running: s.running, frozen: s.frozen, abandoned: s.abandoned, proposal: s.proposal?.ballot },
    prepared: prepared?.round,
    held: s.held?.round,
    committed: s.committed?.round,
    strikes: [...s.strikes],
  })
}
