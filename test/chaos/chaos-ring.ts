/** A ring of real processes, on hosts of its own where that can be had, to which things happen. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ProcessRing } from '../../packages/ring/test/process-rig.ts'
import { identityOf } from '../../packages/ring/test/rig.ts'
import type { Random } from '../../packages/ring/test/sim/random.ts'
import { Namespaces } from '../net/namespaces.ts'

/** 2 MB a vector: on loopback a round takes tens of ms, long enough to be hit inside. */
const LENGTH = 500_000
export const PEER_TIMEOUT_MS = 2000

/** How long into a round a fault may come: about as long as one takes. */
const INSIDE_MS = 60

export class ChaosRing {
  readonly size: number
  readonly random: Random
  readonly processes: ProcessRing
  readonly network: Namespaces | null

  constructor(
    size: number,
    random: Random,
    { useNamespaces, thinkMs }: { useNamespaces: boolean; thinkMs: number },
  ) {
    this.size = size
    this.random = random
    // One host more, for a node that joins.
    const network = useNamespaces ? new Namespaces(size + 1) : null
    this.network = network
    const settings = {
      length: LENGTH,
      thinkMs,
      ring: { minMembers: Math.floor(size / 2) + 1, peerTimeoutMs: PEER_TIMEOUT_MS },
    }
    this.processes = new ProcessRing(
      settings,
      network === null
        ? undefined
        : (node) => ({ listen: [`/ip4/${network.addressOf(node)}/tcp/0`], through: network.through(node) }),
    )
  }

  get nodes(): number[] {
    return Array.from({ length: this.size }, (_, n) => n)
  }

  /** Survivors that can go on without waiting for anybody. */
  isQuorum(nodes: readonly number[]): boolean {
    return nodes.length > this.size / 2
  }

  pick(): number {
    return this.random.below(this.size)
  }

  /** Who proposes changes first: the lowest peer id. */
  proposers(): number[] {
    return this.nodes.sort((a, b) => (identityOf(a).peerId < identityOf(b).peerId ? -1 : 1))
  }

  async start(): Promise<void> {
    await this.processes.start(0)
    await Promise.all(this.nodes.slice(1).map((node) => this.processes.start(node)))
    await this.processes.untilRoundsGoOn(this.nodes)
  }

  /** Resolves at a random moment of a round of `node`. */
  async inside(node: number): Promise<void> {
    await this.#reducing(node)
    await sleep(this.random.below(INSIDE_MS))
  }

  /** Resolves right after `node` has committed a round, while it thinks about the next. */
  async between(node: number): Promise<void> {
    const round = this.processes.lastRound(node)
    await this.processes.until(() => this.processes.lastRound(node) > round, `node ${node} commits a round`)
  }

  /** No two results of a round, and every committed round is in every state that has come so far. */
  check(): void {
    this.processes.check()
    for (const node of this.processes.running) {
      const path = join(this.processes.dir, String(node), 'state.json')
      const { log } = JSON.parse(readFileSync(path, 'utf8')) as { log: string[] }
      log.forEach((hash, i) => {
        const known = this.processes.resultOf(i + 1)
        if (known !== undefined && known !== hash) throw new Error(`node ${node} has lost round ${i + 1}`)
      })
    }
  }

  async close(): Promise<void> {
    await this.processes.close()
    this.network?.remove()
  }

  async #reducing(node: number): Promise<void> {
    let isInside = false
    this.processes.onReducing = (n) => {
      isInside ||= n === node
    }
    await this.processes.until(() => isInside, `node ${node} enters a round`)
    this.processes.onReducing = null
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
