/** The simulated world: nodes, a network that misbehaves by a seed, and an oracle that knows what must never happen. */
import type { ViewMessage } from '../../src/view/messages.ts'
import { VirtualClock } from './clock.ts'
import { Random } from './random.ts'
import { SimNode, type Log } from './node.ts'

/** How a run is set up. Probabilities are per message or per chance. */
export interface WorldOptions {
  readonly seed: number
  readonly nodes: number
  readonly minMembers: number
  readonly quorum: 'majority' | 'any'
  readonly peerTimeoutMs: number
  readonly loss: number
  readonly duplicate: number
  readonly reorder: boolean
  readonly crashAtPersist: number
  readonly miscompute: number
  readonly linkFailure: number
}

/** Sees every commit and every applied state. */
export class Oracle {
  /** round -> result hash -> who applied it durably */
  readonly rounds = new Map<number, Map<string, Set<string>>>()
  commits = 0

  committed(node: string, round: number, hash: string): void {
    this.commits += 1
    this.#note(node, round, hash)
  }

  /** Two nodes must never hold different results of one round in their durable states. */
  applied(node: string, log: Log): void {
    log.forEach((hash, i) => this.#note(node, i + 1, hash))
  }

  #note(node: string, round: number, hash: string): void {
    let results = this.rounds.get(round)
    if (results === undefined) this.rounds.set(round, (results = new Map<string, Set<string>>()))
    const holders = results.get(hash) ?? new Set<string>()
    holders.add(node)
    results.set(hash, holders)
    if (results.size > 1) {
      const list = [...results].map(([h, who]) => `${h.slice(0, 8)} on ${[...who].join()}`)
      throw new Error(`round ${round} has two results: ${list.join(' and ')}`)
    }
  }

  get newest(): number {
    return Math.max(0, ...this.rounds.keys())
  }
}

export class World {
  readonly options: WorldOptions
  readonly clock = new VirtualClock()
  readonly random: Random
  readonly nodes = new Map<string, SimNode>()
  readonly oracle = new Oracle()
  messages = 0
  faults = true
  #weights = 0
  /** pairs that cannot talk; a silent cut is not reported to the ends */
  readonly #cut = new Set<string>()
  readonly #connected = new Set<string>()
  readonly #generations = new Map<string, number>()
  readonly #lastDelivery = new Map<string, number>()
  readonly #exchanges = new Map<string, { members: readonly string[]; waiting: Map<string, Waiter> }>()

  constructor(options: WorldOptions) {
    this.options = options
    this.random = new Random(options.seed)
    for (let i = 0; i < options.nodes; i++) {
      const node = new SimNode(`n${i}`, this)
      this.nodes.set(node.id, node)
    }
  }

  later(meanMs: number, run: () => void): void {
    this.clock.after(this.random.between(0, 2 * meanMs), run)
  }

  uniqueWeight(): number {
    this.#weights += 1
    return this.#weights
  }

  start(id: string): void {
    this.#node(id).start()
    for (const other of this.nodes.keys()) this.#connect(id, other)
  }

  crash(id: string): void {
    this.#node(id).crash()
    for (const other of this.nodes.keys()) {
      if (!this.#connected.delete(pair(id, other))) continue
      const generation = this.#generations.get(pair(id, other))
      this.clock.after(this.random.between(1, 20), () => {
        if (this.#generations.get(pair(id, other)) !== generation) return
        this.#node(other).post({ on: 'disconnected', peer: id })
      })
    }
  }

  /** Stops messages between two nodes; `silent` leaves the connection standing, as a dead cable does. */
  cut(a: string, b: string, silent: boolean): void {
    this.#cut.add(pair(a, b))
    if (silent || !this.#connected.delete(pair(a, b))) return
    this.#node(a).post({ on: 'disconnected', peer: b })
    this.#node(b).post({ on: 'disconnected', peer: a })
  }

  heal(): void {
    this.#cut.clear()
    const ids = [...this.nodes.keys()]
    ids.forEach((a, i) => ids.slice(i + 1).forEach((b) => this.#connect(a, b)))
  }

  isConnected(a: string, b: string): boolean {
    return this.#node(a).isUp && this.#node(b).isUp && !this.#cut.has(pair(a, b))
  }

  send(from: string, to: string, message: ViewMessage): void {
    if (!this.isConnected(from, to) || !this.#connected.has(pair(from, to))) return
    this.messages += 1
    const { loss, duplicate, reorder } = this.options
    const copies = this.faults && this.random.chance(duplicate) ? 2 : 1
    for (let i = 0; i < copies; i++) {
      if (this.faults && this.random.chance(loss)) continue
      let at = this.clock.now + this.random.between(0.2, this.random.chance(0.02) ? 400 : 15)
      const key = `${from} ${to}`
      if (!reorder) at = Math.max(at, this.#lastDelivery.get(key) ?? 0)
      this.#lastDelivery.set(key, at)
      const boot = this.#node(to).boot
      this.clock.after(at - this.clock.now, () => {
        if (this.isConnected(from, to) && this.#node(to).boot === boot) this.#node(to).receive(from, message)
      })
    }
  }

  /** A node enters the exchange `name`; it ends for all when every member has entered, or fails one by one. */
  exchange(
    name: string,
    id: string,
    members: readonly string[],
    isCurrent: () => boolean,
    done: (failedPeer: string | null) => void,
  ): void {
    let entry = this.#exchanges.get(name)
    if (entry === undefined) this.#exchanges.set(name, (entry = { members, waiting: new Map() }))
    entry.waiting.set(id, { isCurrent, done })
    // A stalled exchange is given up after a while, as the real one is.
    this.clock.after(10_000, () => {
      if (isCurrent()) done(null === entry ? null : this.#missing(entry, id))
    })
    if (entry.waiting.size < members.length) return
    this.#exchanges.delete(name)
    const broken =
      members.some((m) => entry.waiting.get(m)?.isCurrent() !== true) ||
      (this.faults && this.random.chance(this.options.linkFailure))
    for (const [member, waiter] of entry.waiting) {
      this.later(30, () => {
        const unreachable = members.find((m) => m !== member && !this.isConnected(member, m)) ?? null
        if (unreachable !== null || broken) waiter.done(unreachable ?? neighbour(members, member))
        else waiter.done(null)
      })
    }
  }

  crashesAtPersist(node: SimNode): boolean {
    if (!this.faults || !this.random.chance(this.options.crashAtPersist)) return false
    this.crash(node.id)
    this.clock.after(this.random.between(100, 3000), () => {
      if (!node.isUp) this.start(node.id)
    })
    return true
  }

  miscomputes(): boolean {
    return this.faults && this.random.chance(this.options.miscompute)
  }

  #missing(entry: { members: readonly string[]; waiting: Map<string, Waiter> }, id: string): string {
    return entry.members.find((m) => !entry.waiting.has(m)) ?? neighbour(entry.members, id)
  }

  #connect(a: string, b: string): void {
    if (a === b || this.#cut.has(pair(a, b)) || this.#connected.has(pair(a, b))) return
    if (!this.#node(a).isUp || !this.#node(b).isUp) return
    this.#connected.add(pair(a, b))
    this.#generations.set(pair(a, b), (this.#generations.get(pair(a, b)) ?? 0) + 1)
    for (const [self, peer] of [
      [a, b],
      [b, a],
    ] as const) {
      this.clock.after(this.random.between(1, 30), () => {
        if (!this.#connected.has(pair(a, b))) return
        // As in the mesh: a new connection always ends the one before first.
        this.#node(self).post({ on: 'disconnected', peer })
        this.#node(self).post({ on: 'connected', peer })
      })
    }
  }

  #node(id: string): SimNode {
    const node = this.nodes.get(id)
    if (node === undefined) throw new Error(`no node ${id}`)
    return node
  }
}

interface Waiter {
  readonly isCurrent: () => boolean
  readonly done: (failedPeer: string | null) => void
}

function pair(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`
}

function neighbour(members: readonly string[], id: string): string {
  return members[(members.indexOf(id) + 1) % members.length]
}
