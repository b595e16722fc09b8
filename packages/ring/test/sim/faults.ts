/** What can go wrong in a run, as a list: each kind does its harm and arranges for it to pass. */
import type { World } from './world.ts'

type Fault = (world: World, ids: readonly string[]) => void

function pick(world: World, ids: readonly string[]): string {
  return ids[world.random.below(ids.length)]
}

function crash(world: World, id: string, downMs: number): void {
  if (!world.node(id).isUp) return
  world.crash(id)
  world.restartLater(id, 50, downMs)
}

/** Every kind of fault; a run draws from them evenly. */
export const FAULTS: Readonly<Record<string, Fault>> = {
  crash: (world, ids) => crash(world, pick(world, ids), 6000),

  crashOfAll: (world, ids) => {
    for (const id of ids) crash(world, id, 2000)
  },

  /** Whoever is in the middle of changing the view; if nobody is, whoever would be the first to propose. */
  crashOfProposer: (world, ids) => {
    const up = ids.filter((id) => world.node(id).isUp)
    const proposing = up.filter((id) => world.node(id).machine?.state.proposal != null)
    const [victim] = proposing.length > 0 ? proposing : up
    if (victim !== undefined) crash(world, victim, 6000)
  },

  /** One node dies, and whoever starts to replace it dies as soon as it does. */
  crashOfSuccessors: (world, ids) => {
    crash(world, pick(world, ids), 6000)
    const until = world.clock.now + 1500
    const watch = (): void => {
      const proposer = ids.find((id) => world.node(id).machine?.state.proposal != null)
      if (proposer !== undefined) crash(world, proposer, 4000)
      else if (world.clock.now < until) world.clock.after(1, watch)
    }
    watch()
  },

  partition: (world, ids) => {
    const { random, network, clock } = world
    const side = new Set(ids.filter(() => random.chance(0.5)))
    const silent = random.chance(0.5)
    for (const a of ids) for (const b of ids) if (side.has(a) && !side.has(b)) network.cut(a, b, silent)
    clock.after(random.between(100, 5000), () => network.heal())
  },

  cutPair: (world, ids) => {
    const { random, network, clock } = world
    const [a, b] = [pick(world, ids), pick(world, ids)]
    if (a !== b) network.cut(a, b, random.chance(0.5))
    clock.after(random.between(100, 5000), () => network.heal())
  },

  /** A process that does not run for a while, shorter or longer than the timeout. */
  stop: (world, ids) => {
    const node = world.node(pick(world, ids))
    const { boot } = node
    node.stop()
    world.clock.after(world.random.between(100, 4000), () => {
      if (node.boot === boot) node.wake()
    })
  },

  withdraw: (world, ids) => world.node(pick(world, ids)).withdraw(),

  leave: (world, ids) => {
    const id = pick(world, ids)
    world.node(id).leave()
    world.restartLater(id, 500, 8000)
  },

  /** Somebody of no ring speaks to all as a voter would: a ballot that nobody can top, a refusal of the first view. */
  stranger: (world, ids) => {
    for (const id of ids) {
      const state = world.node(id).machine?.state
      const view = state?.durable.view
      if (view !== undefined && view !== null) {
        const promised = { n: Number.MAX_SAFE_INTEGER, peer: '~' }
        world.node(id).receive('~', { t: 'nack', ringId: view.ringId, epoch: view.epoch + 1, promised })
      }
      const genesis = state?.genesis
      if (genesis !== undefined && genesis !== null)
        world.node(id).receive('~', { t: 'genesis-nack', ringId: genesis.value.ringId })
    }
  },

  none: () => undefined,
}

/** Does one of them. */
export function injectFault(world: World, ids: readonly string[]): void {
  const kinds = Object.values(FAULTS)
  kinds[world.random.below(kinds.length)]?.(world, ids)
}
