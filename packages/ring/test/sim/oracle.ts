/** Sees every agreed view, every commit and every applied state of a run, and knows what must never happen. */
import type { ViewValue } from '../../src/view/messages.ts'
import type { QuorumMode } from '../../src/view/state.ts'
import { viewId } from '../../src/view/vote.ts'
import type { Log } from './log.ts'

/** `any` may let two halves go on, so there only what one view says is compared. */
export class Oracle {
  readonly #quorum: QuorumMode
  /** "ring epoch" -> the one view agreed for it */
  readonly #views = new Map<string, string>()
  /** result -> the view that computed it */
  readonly #origins = new Map<string, string>()
  /** round (of a view, with quorum any) -> its one result */
  readonly #results = new Map<string, { readonly hash: string; readonly node: string }>()
  /** round -> the one state after it */
  readonly #states = new Map<number, string>()
  /** the newest round that anybody has committed or applied */
  newest = 0
  commits = 0

  constructor(quorum: QuorumMode) {
    this.#quorum = quorum
  }

  /** At most one view is agreed for an epoch of a ring. */
  agreed(node: string, value: ViewValue): void {
    if (this.#quorum === 'any') return
    const key = `${value.ringId} ${value.epoch}`
    const id = viewId(value)
    const first = this.#views.get(key)
    if (first === undefined) this.#views.set(key, id)
    else if (first !== id) throw new Error(`${node} agreed on a second view in epoch ${value.epoch}`)
  }

  /** The members of a view have computed a result: with quorum any one may hear of its commit in its next view. */
  computed(view: ViewValue, hash: string): void {
    this.#origins.set(hash, `${viewId(view)} ${view.start.round}`)
  }

  /** No round is committed twice with different results: not by two partitions, not by two epochs. */
  committed(node: string, round: number, hash: string): void {
    this.commits += 1
    this.newest = Math.max(this.newest, round)
    const origin = this.#origins.get(hash)
    if (origin === undefined) throw new Error(`${node} commits a result that no view has computed`)
    const key = this.#quorum === 'any' ? `${origin} ${round}` : String(round)
    const first = this.#results.get(key)
    if (first === undefined) this.#results.set(key, { hash, node })
    else if (first.hash !== hash) {
      throw new Error(
        `round ${round} has two results: ${first.hash.slice(0, 8)} on ${first.node}, ${hash.slice(0, 8)} on ${node}`,
      )
    }
  }

  /** Nodes that have reached a round hold the same state, and with it the same history. */
  applied(node: string, log: Log): void {
    this.newest = Math.max(this.newest, log.round)
    if (this.#quorum === 'any') return
    const first = this.#states.get(log.round)
    if (first === undefined) this.#states.set(log.round, log.hash)
    else if (first !== log.hash) throw new Error(`${node} has another state after round ${log.round}`)
  }
}
