/** The network between simulated nodes: connections that come and go, and messages that are lost, late or repeated. */
import type { ViewMessage } from '../../src/view/messages.ts'
import type { World } from './world.ts'

/** Pairs of nodes by their places; one entry for both directions where a link has no direction. */
export class Network {
  readonly #world: World
  readonly #size: number
  readonly #cut: Uint8Array
  readonly #connected: Uint8Array
  readonly #generations: Uint32Array
  readonly #lastDelivery: Float64Array
  messages = 0
  /** called for every message sent, for counting and tracing */
  onSend: ((from: string, to: string, message: ViewMessage) => void) | null = null

  constructor(world: World, size: number) {
    this.#world = world
    this.#size = size
    this.#cut = new Uint8Array(size * size)
    this.#connected = new Uint8Array(size * size)
    this.#generations = new Uint32Array(size * size)
    this.#lastDelivery = new Float64Array(size * size)
  }

  /** Whether bytes can pass between two nodes now. */
  reaches(a: string, b: string): boolean {
    const world = this.#world
    return world.node(a).isUp && world.node(b).isUp && this.#cut[this.#pair(a, b)] === 0
  }

  send(from: string, to: string, message: ViewMessage): void {
    const [sender, receiver] = [this.#world.node(from), this.#world.node(to)]
    const pair = this.#pairOf(sender.place, receiver.place)
    const passes = (): boolean => sender.isUp && receiver.isUp && this.#cut[pair] === 0
    if (!passes() || this.#connected[pair] === 0) return
    this.messages += 1
    this.onSend?.(from, to, message)
    const { clock, random, faults } = this.#world
    const { loss, duplicate, reorder } = this.#world.options
    const copies = faults && random.chance(duplicate) ? 2 : 1
    const { boot } = receiver
    for (let i = 0; i < copies; i++) {
      if (faults && random.chance(loss)) continue
      let at = clock.now + random.between(0.2, random.chance(0.02) ? 400 : 15)
      const key = sender.place * this.#size + receiver.place
      if (!reorder) at = Math.max(at, this.#lastDelivery[key] ?? 0)
      this.#lastDelivery[key] = at
      clock.after(at - clock.now, () => {
        if (receiver.boot === boot && passes()) receiver.receive(from, message)
      })
    }
  }

  /** Opens connections between a node and all it can reach. */
  connectAll(id: string): void {
    for (const other of this.#world.nodes.keys()) this.#connect(id, other)
  }

  /** The connections of a node that is gone break, each other end noticing in its own time. */
  dropAll(id: string): void {
    const { clock, random } = this.#world
    for (const other of this.#world.nodes.keys()) {
      const pair = this.#pair(id, other)
      if (this.#connected[pair] === 0) continue
      this.#connected[pair] = 0
      const generation = this.#generations[pair]
      clock.after(random.between(1, 20), () => {
        if (this.#generations[pair] !== generation) return
        this.#world.node(other).post({ on: 'disconnected', peer: id })
      })
    }
  }

  /** Stops messages between two nodes; `silent` leaves the connection standing, as a dead cable does. */
  cut(a: string, b: string, silent: boolean): void {
    const pair = this.#pair(a, b)
    this.#cut[pair] = 1
    if (silent || this.#connected[pair] === 0) return
    this.#connected[pair] = 0
    this.#world.node(a).post({ on: 'disconnected', peer: b })
    this.#world.node(b).post({ on: 'disconnected', peer: a })
  }

  /** Ends all cuts and connects whoever is up. */
  heal(): void {
    this.#cut.fill(0)
    for (const id of this.#world.nodes.keys()) this.connectAll(id)
  }

  #connect(a: string, b: string): void {
    const pair = this.#pair(a, b)
    if (a === b || this.#connected[pair] === 1 || !this.reaches(a, b)) return
    this.#connected[pair] = 1
    this.#generations[pair] = (this.#generations[pair] ?? 0) + 1
    const { clock, random } = this.#world
    for (const [self, peer] of [
      [a, b],
      [b, a],
    ] as const) {
      clock.after(random.between(1, 30), () => {
        if (this.#connected[pair] === 0) return
        // As in the mesh: a new connection always ends the one before first.
        this.#world.node(self).post({ on: 'disconnected', peer })
        this.#world.node(self).post({ on: 'connected', peer })
      })
    }
  }

  #pair(a: string, b: string): number {
    return this.#pairOf(this.#world.node(a).place, this.#world.node(b).place)
  }

  #pairOf(i: number, j: number): number {
    return i < j ? i * this.#size + j : j * this.#size + i
  }
}
