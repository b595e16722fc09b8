/** The simulated world: a clock, seeded chance, nodes, their network and data plane, and the oracle that watches. */
import { VirtualClock } from './clock.ts'
import { DataPlane } from './data-plane.ts'
import { HostileMember } from './hostile.ts'
import { Network } from './network.ts'
import { SimNode } from './node.ts'
import { Oracle } from './oracle.ts'
import { Random } from './random.ts'
import type { Signing } from './signer.ts'
import type { QuorumMode } from '../../src/view/state.ts'

/** How a run is set up. Probabilities are per message or per chance. */
export interface WorldOptions {
  readonly seed: number
  readonly nodes: number
  readonly minMembers: number
  readonly quorum: QuorumMode
  readonly signing: Signing
  readonly peerTimeoutMs: number
  readonly loss: number
  readonly duplicate: number
  readonly reorder: boolean
  readonly crashAtPersist: number
  readonly miscompute: number
  readonly linkFailure: number
  /** a source of state serves other bytes than it should */
  readonly wrongState: number
  /** clocks run up to this much fast or slow: 0.1 is 10 % */
  readonly clockSkew: number
  /** what is read back went through bytes and the schema: one message in this many */
  readonly checkedMessages: number
  /** members of a view at most */
  readonly maxMembers: number
  /** places of members that lie */
  readonly hostile: readonly number[]
  /** whether nodes run rounds; without, only membership is simulated */
  readonly rounds: boolean
}

/** A world without faults; scenarios change what they need. */
export const PEACEFUL: Omit<WorldOptions, 'seed' | 'nodes' | 'minMembers'> = {
  quorum: 'majority',
  signing: 'mac',
  peerTimeoutMs: 1000,
  loss: 0,
  duplicate: 0,
  reorder: false,
  crashAtPersist: 0,
  miscompute: 0,
  linkFailure: 0,
  wrongState: 0,
  clockSkew: 0,
  checkedMessages: 20,
  maxMembers: 64,
  hostile: [],
  rounds: true,
}

export class World {
  readonly options: WorldOptions
  readonly clock = new VirtualClock()
  readonly random: Random
  readonly nodes = new Map<string, SimNode>()
  readonly oracle: Oracle
  readonly network: Network
  readonly dataPlane: DataPlane
  /** whether things may still go wrong */
  faults = true
  #weights = 0

  constructor(options: WorldOptions) {
    this.options = options
    this.random = new Random(options.seed)
    const digits = String(options.nodes - 1).length
    const nameOf = (place: number): string => `n${String(place).padStart(digits, '0')}`
    this.oracle = new Oracle(options.quorum, new Set(options.hostile.map(nameOf)))
    this.network = new Network(this, options.nodes)
    this.dataPlane = new DataPlane(this)
    for (let place = 0; place < options.nodes; place++) {
      const node = new SimNode(nameOf(place), place, this)
      if (options.hostile.includes(place)) node.hostile = new HostileMember(node)
      this.nodes.set(node.id, node)
    }
  }

  later(meanMs: number, run: () => void): void {
    this.clock.after(this.random.between(0, 2 * meanMs), run)
  }

  /** A weight that nobody else ever uses: two runs of one round never look alike. */
  uniqueWeight(): number {
    this.#weights += 1
    return this.#weights
  }

  start(id: string): void {
    if (this.node(id).isUp) return
    this.node(id).start()
    this.network.connectAll(id)
  }

  crash(id: string): void {
    this.node(id).crash()
    this.network.dropAll(id)
  }

  /** Starts a node after a while if it is still down then. */
  restartLater(id: string, minMs: number, maxMs: number): void {
    this.clock.after(this.random.between(minMs, maxMs), () => this.start(id))
  }

  /** Whether the process dies at this write to its store; it comes back by itself. */
  crashesAtPersist(id: string): boolean {
    if (!this.faults || !this.random.chance(this.options.crashAtPersist)) return false
    this.crash(id)
    this.restartLater(id, 100, 3000)
    return true
  }

  happens(probability: number): boolean {
    return this.faults && this.random.chance(probability)
  }

  node(id: string): SimNode {
    const node = this.nodes.get(id)
    if (node === undefined) throw new Error(`no node ${id}`)
    return node
  }
}
