/** Sees every agreed view, every vote, commit and applied state of a run, and knows what must never happen. */
import type { ViewValue } from '../../src/view/messages.ts'
import { votesNeeded, type QuorumMode } from '../../src/view/state.ts'
import { valueHash, viewId, type VoteSigner } from '../../src/view/vote.ts'
import type { Log } from './log.ts'

/**
 * `any` may let two halves go on, so there only what one view says is compared; the same holds with liars and a majority,
 * as two majorities of an odd number may share a liar only. What liars do themselves is not looked at.
 */
export class Oracle {
  readonly #quorum: QuorumMode
  readonly #hostile: ReadonlySet<string>
  /** whether there is one history */
  readonly isOne: boolean
  /** "ring epoch" -> the one view agreed for it */
  readonly #views = new Map<string, string>()
  /** hash -> a view that an honest node is or was in */
  readonly #known = new Map<string, ViewValue>()
  /** hash of a view -> hash of the view that they leave -> honest members who have signed that they accept it */
  readonly #votes = new Map<string, Map<string, Set<string>>>()
  /** result -> the view that computed it */
  readonly #origins = new Map<string, string>()
  /** round (of a view, with quorum any) -> its one result */
  readonly #results = new Map<string, { readonly hash: string; readonly node: string }>()
  /** round -> the one state after it */
  readonly #states = new Map<number, string>()
  /** the newest round that anybody has committed or applied */
  newest = 0
  commits = 0
  /** views that nodes took on trust: outside any ring, or long without a quorum of theirs */
  onTrust = 0

  /** those that are in such a view, which nobody else is in */
  readonly #ledAway = new Set<string>()

  constructor(quorum: QuorumMode, hostile: ReadonlySet<string>) {
    this.#quorum = quorum
    this.#hostile = hostile
    this.isOne = quorum === 'two-thirds' || (quorum === 'majority' && hostile.size === 0)
  }

  /** A signer that lets this see for what a node votes. */
  watch(node: string, signer: VoteSigner): VoteSigner {
    return { ...signer, sign: (message) => (this.#voted(node, message), signer.sign(message)) }
  }

  /**
   * At most one view is agreed for an epoch of a ring. An honest node takes one over only when so many of the view before
   * have signed for it that, without all liars, honest ones are missing to a quorum by no more than there are liars.
   */
  agreed(node: string, value: ViewValue, onTrust: boolean): void {
    if (this.#hostile.has(node)) return
    const hash = valueHash(value)
    const isVoted = value.epoch === 1 || this.#quorum === 'any' || this.#isVotedFor(hash)
    if (!isVoted && (onTrust || this.#ledAway.has(node))) {
      this.onTrust += 1
      this.#ledAway.add(node)
      return
    }
    this.#ledAway.delete(node)
    if (!isVoted)
      throw new Error(`${node} takes over a view of epoch ${value.epoch} that no quorum voted for`)
    this.#known.set(hash, value)
    if (!this.isOne) return
    const key = `${value.ringId} ${value.epoch}`
    const id = viewId(value)
    const first = this.#views.get(key)
    if (first === undefined) this.#views.set(key, id)
    else if (first !== id) throw new Error(`${node} agreed on a second view in epoch ${value.epoch}`)
  }

  /** A view is on a disk, and from there it counts: the process may die before it says so. */
  stored(node: string, value: ViewValue | null): void {
    if (value === null || this.#hostile.has(node)) return
    const hash = valueHash(value)
    if (value.epoch === 1 || this.#isVotedFor(hash)) this.#known.set(hash, value)
  }

  /** The members of a view have computed a result: with quorum any one may hear of its commit in its next view. */
  computed(view: ViewValue, hash: string): void {
    this.#origins.set(hash, `${viewId(view)} ${view.start.round}`)
  }

  /** No round is committed twice with different results: not by two partitions, not by two epochs. */
  committed(node: string, round: number, hash: string): void {
    if (this.#hostile.has(node) || this.#ledAway.has(node)) return
    this.commits += 1
    this.newest = Math.max(this.newest, round)
    const origin = this.#origins.get(hash)
    if (origin === undefined) throw new Error(`${node} commits a result that no view has computed`)
    const key = this.isOne ? String(round) : `${origin} ${round}`
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
    if (this.#hostile.has(node)) return
    this.newest = Math.max(this.newest, log.round)
    if (!this.isOne) return
    const first = this.#states.get(log.round)
    if (first === undefined) this.#states.set(log.round, log.hash)
    else if (first !== log.hash) throw new Error(`${node} has another state after round ${log.round}`)
  }

  #voted(node: string, message: Uint8Array): void {
    const text = new TextDecoder().decode(message)
    const facts = JSON.parse(text.slice(text.indexOf('\0') + 1)) as unknown[]
    const [kind, , , , left, , , hash] = facts.map(String)
    if (kind !== 'accept' || left === undefined || hash === undefined) return
    const byView = this.#votes.get(hash) ?? new Map<string, Set<string>>()
    byView.set(left, (byView.get(left) ?? new Set()).add(node))
    this.#votes.set(hash, byView)
  }

  /** Liars sign without this seeing it, so each may have. */
  #isVotedFor(hash: string): boolean {
    for (const [left, voters] of this.#votes.get(hash) ?? []) {
      const before = this.#known.get(left)
      if (before === undefined) continue
      const members = before.members.map(({ peer }) => peer)
      const count = members.filter((peer) => voters.has(peer) || this.#hostile.has(peer)).length
      if (count >= votesNeeded(this.#quorum, members.length)) return true
    }
    return false
  }
}
