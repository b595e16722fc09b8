/** The simulated data plane: an exchange ends when every member has entered it, or fails for each on its own. */
import type { World } from './world.ts'

interface Waiter {
  readonly isCurrent: () => boolean
  readonly done: (failedPeer: string | null) => void
}

interface Exchange {
  readonly members: readonly string[]
  readonly waiting: Map<string, Waiter>
}

/** A stalled exchange is given up after this long, as the real one is. */
const STALL_MS = 10_000

export class DataPlane {
  readonly #world: World
  readonly #exchanges = new Map<string, Exchange>()

  constructor(world: World) {
    this.#world = world
  }

  /** Node `id` enters the exchange `name`; `done` is told null, or the peer it failed with. */
  enter(
    name: string,
    id: string,
    members: readonly string[],
    isCurrent: () => boolean,
    done: (failedPeer: string | null) => void,
  ): void {
    const { clock, random, network, options } = this.#world
    const entry: Exchange = this.#exchanges.get(name) ?? { members, waiting: new Map() }
    this.#exchanges.set(name, entry)
    entry.waiting.set(id, { isCurrent, done })
    clock.after(STALL_MS, () => {
      if (isCurrent()) done(members.find((m) => !entry.waiting.has(m)) ?? neighbour(members, id))
    })
    if (entry.waiting.size < members.length) return
    this.#exchanges.delete(name)
    const broken =
      members.some((m) => entry.waiting.get(m)?.isCurrent() !== true) ||
      (this.#world.faults && random.chance(options.linkFailure))
    for (const [member, waiter] of entry.waiting) {
      this.#world.later(30, () => {
        const unreachable = members.find((m) => m !== member && !network.reaches(member, m)) ?? null
        if (unreachable !== null || broken) waiter.done(unreachable ?? neighbour(members, member))
        else waiter.done(null)
      })
    }
  }
}

function neighbour(members: readonly string[], id: string): string {
  return members[(members.indexOf(id) + 1) % members.length]
}
