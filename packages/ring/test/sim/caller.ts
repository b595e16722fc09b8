/** What the daemon does on top of the ring: get ready, fetch state if needed, contribute, apply the result, again. */
import type { ViewMachine } from '../../src/view/machine.ts'
import { isMinority, isSynced, ringTarget } from '../../src/view/questions.ts'
import { isParticipant } from '../../src/view/state.ts'
import { append, type Log } from './log.ts'
import type { SimNode } from './node.ts'

/** Parts of a state transfer: it can break off after any of them, and goes on there from another source. */
const TRANSFER_PARTS = 4

/** A state that is being fetched. */
interface Transfer {
  readonly hash: string
  /** what each part brought; a part of a lying source is wrong */
  readonly parts: { readonly source: string; readonly right: boolean }[]
  /** what the parts make up, when all are right */
  log: Log
}

/** One process's caller; dies with it. */
export class Caller {
  readonly #node: SimNode
  readonly #machine: ViewMachine
  readonly #bad = new Set<string>()
  #applying = false
  #busy = false
  #contributed = false
  #transfer: Transfer | null = null

  constructor(node: SimNode, machine: ViewMachine) {
    this.#node = node
    this.#machine = machine
  }

  onReject(): void {
    this.#contributed = false
  }

  /** The result is applied after a while: a crash before that loses it here. */
  onCommit(round: number, hash: string): void {
    this.#applying = true
    const node = this.#node
    node.later(20, () => {
      this.#applying = false
      this.#contributed = false
      if (round !== node.log.round + 1) {
        throw new Error(`${node.id} commits ${round} on state ${node.log.round}`)
      }
      node.setLog(append(node.log, hash))
    })
  }

  /** Looks whether there is something to do. */
  go(): void {
    const s = this.#machine.state
    if (this.#busy || this.#applying || this.#contributed) return
    if (!isParticipant(s) || isMinority(s)) return
    if (isSynced(s)) this.#contribute()
    else this.#fetch()
  }

  #contribute(): void {
    const node = this.#node
    this.#busy = true
    node.later(60, () => {
      this.#busy = false
      if (this.#contributed || this.#applying) return
      this.#contributed = true
      const { round, hash } = node.mark()
      const weight = node.world.uniqueWeight()
      node.post({
        on: 'contribute',
        contribution: { round: round + 1, length: 8, weight, wire: 'f32', state: hash, commitment: null },
        bytes: 8 * 4,
      })
    })
  }

  #fetch(): void {
    const target = ringTarget(this.#machine.state)
    if (target?.hash == null || target.sources.length === 0) return
    const { random } = this.#node.world
    const trusted = target.sources.filter((peer) => !this.#bad.has(peer))
    const from = trusted.length > 0 ? trusted : target.sources
    if (this.#transfer?.hash !== target.hash) this.#transfer = null
    this.#busy = true
    this.#fetchPart(target.hash, from[random.below(from.length)])
  }

  #fetchPart(wanted: string, source: string): void {
    const node = this.#node
    const { world } = node
    node.later(15, () => {
      this.#busy = false
      const holder = world.node(source)
      const { log } = holder
      if (holder.isStopped || !world.network.reaches(node.id, source) || log.hash !== wanted) return
      const transfer = (this.#transfer ??= { hash: wanted, parts: [], log })
      transfer.parts.push({ source, right: !world.happens(world.options.wrongState) })
      if (transfer.parts.length < TRANSFER_PARTS) {
        this.#busy = true
        this.#fetchPart(wanted, source)
        return
      }
      this.#transfer = null
      if (transfer.parts.every((part) => part.right)) {
        node.setLog(transfer.log)
        return
      }
      const served = new Set(transfer.parts.map((part) => part.source))
      if (served.size === 1) this.#bad.add(source)
    })
  }
}
