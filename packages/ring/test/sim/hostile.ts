/**
 * A member that lies: it has its own key and everything that it was ever told, and says whatever it likes on its own
 * connections. Between its lies it follows the protocol, which is when it does most harm.
 */
import { certify } from '../../src/view/certificate.ts'
import type {
  Ballot,
  Certificate,
  Member,
  Proven,
  StatusMessage,
  ViewMessage,
  ViewValue,
} from '../../src/view/messages.ts'
import { MAX_BALLOT_STEP, MAX_EPOCH } from '../../src/view/messages.ts'
import { votesNeeded } from '../../src/view/state.ts'
import { voteBytes, type Question, type VoteKind } from '../../src/view/vote.ts'
import { digest } from './log.ts'
import type { SimNode } from './node.ts'
import { Random } from './random.ts'
import { simSigner } from './signer.ts'

/** Messages it keeps, to say them again. */
const REMEMBERED = 64

/** A ballot of its own under way: what it has asked to endorse, and whose votes it got. */
interface Ploy {
  readonly before: ViewValue
  readonly ballot: Ballot
  readonly values: readonly ViewValue[]
  readonly votes: Map<string, Uint8Array>[]
  readonly certificates: (Certificate | null)[]
}

type Attack = (h: HostileMember, view: ViewValue) => void

/** What it does of its own accord. */
const ATTACKS: Readonly<Record<string, Attack>> = {
  forgeDecision: (h, view) => h.say({ t: 'decided', path: [h.forged(view, h.evil(view))] }),

  /** A line of views of its own making, in which it is the only voter: consistent, and leading from nowhere. */
  forgeLine: (h, view) => {
    const epoch = h.random.chance(0.2) ? MAX_EPOCH : view.epoch + 1 + h.random.below(5)
    const alone = { ...view, epoch: epoch - 1, members: [h.asMember()] }
    const value = { ...h.evil(view), epoch, ...(h.random.chance(0.5) ? { members: h.everybody() } : {}) }
    h.say({ t: 'decided', path: [h.forged(view, alone), h.provenByItself(alone, value)] })
  },

  /** The same with another ring, for those in none. */
  forgeRing: (h, view) => {
    const alone = {
      ...view,
      ringId: digest(`ring of ${h.node.id}`).slice(0, 32),
      epoch: 5,
      members: [h.asMember()],
    }
    const value = { ...alone, epoch: 6, members: h.everybody() }
    h.say({ t: 'decided', path: [h.forged(view, alone), h.provenByItself(alone, value)] })
  },

  ballot: (h, view) => h.openBallot(view),

  highBallots: (h, view) => {
    const scope = { ringId: view.ringId, epoch: view.epoch + 1 }
    const n = h.random.chance(0.5) ? Number.MAX_SAFE_INTEGER : MAX_BALLOT_STEP - h.random.below(5)
    h.say({ t: 'nack', ...scope, promised: { n, peer: h.node.id } })
    h.say({ t: 'prepare', ...scope, ballot: { n, peer: h.node.id } })
  },

  refuseFounding: (h) => {
    for (const { machine } of h.node.world.nodes.values()) {
      const ringId = machine?.state.genesis?.value.ringId
      if (ringId !== undefined) h.say({ t: 'genesis-nack', ringId })
    }
  },

  replay: (h) => {
    for (let i = 0; i < 8; i++) {
      const message = h.heard[h.random.below(h.heard.length)]
      if (message !== undefined) h.say(message)
    }
  },
}

export class HostileMember {
  readonly node: SimNode
  readonly random: Random
  readonly heard: ViewMessage[] = []
  readonly #signer
  #ploy: Ploy | null = null

  constructor(node: SimNode) {
    this.node = node
    this.random = new Random(node.world.options.seed ^ 0x1a5)
    this.#signer = simSigner(node.id, node.world.options.signing)
  }

  /** One lie, if it is in a view. */
  attack(): void {
    const view = this.node.machine?.state.durable.view
    if (view == null) return
    const kinds = Object.values(ATTACKS)
    kinds[this.random.below(kinds.length)]?.(this, view)
  }

  /** Takes note of what it is told; votes for everything, twice if asked. */
  hears(from: string, message: ViewMessage): void {
    if (message.t !== 'status') {
      this.heard.push(message)
      if (this.heard.length > REMEMBERED) this.heard.shift()
    }
    const before = this.node.machine?.state.durable.view
    if (before == null || !this.node.world.faults) return
    if (message.t === 'propose' && this.random.chance(0.5)) {
      const { ringId, epoch, ballot, value } = message
      const signature = this.#vote('endorse', before, ballot, value)
      this.#send(from, { t: 'endorsed', ringId, epoch, ballot, signature })
    }
    if (message.t === 'accept' && this.random.chance(0.5)) {
      const { ringId, epoch, value } = message
      const { ballot } = message.certificate
      const signature = this.#vote('accept', before, ballot, value)
      this.#send(from, { t: 'accepted', ringId, epoch, ballot, signature })
    }
    if (message.t === 'endorsed' || message.t === 'accepted') this.#collect(from, message)
  }

  /** What it says in place of what its machine would; null for nothing. */
  alters(message: ViewMessage): ViewMessage | null {
    const view = this.node.machine?.state.durable.view
    if (!this.node.world.faults || view == null || this.random.chance(0.7)) return message
    switch (message.t) {
      case 'promise': {
        const round = message.reached + this.random.below(3) * 500
        const lies = [
          { accepted: { ...this.forged(view, this.evil(view)) } },
          { accepted: null, prepared: null, held: null, reached: 0 },
          { reached: round + 1 },
          { prepared: { round: round + 1, hash: digest('never') } },
          { start: { round: round + 1, result: null } },
        ]
        return { ...message, ...lies[this.random.below(lies.length)] }
      }
      case 'status':
        return this.#lyingStatus(message)
      case 'endorsed':
      case 'accepted':
        return this.random.chance(0.5) ? null : { ...message, signature: Buffer.alloc(64).toString('base64') }
      case 'genesis':
      case 'genesis-ack':
      case 'genesis-nack':
      case 'prepare':
      case 'propose':
      case 'nack':
      case 'accept':
      case 'decided':
        return message
    }
  }

  say(message: ViewMessage): void {
    for (const id of this.node.world.nodes.keys()) this.#send(id, message)
  }

  asMember(): Member {
    return { peer: this.node.id, boot: `${this.node.id}.${this.node.boot}` }
  }

  /** All processes that run, by the names under which they are at the door. */
  everybody(): Member[] {
    return [...this.node.world.nodes.values()].flatMap(({ id, machine }) =>
      machine === null ? [] : [{ peer: id, boot: machine.state.boot }],
    )
  }

  /** A next view that no honest member wants, or one that differs from what they want in nothing that harms. */
  evil(view: ViewValue): ViewValue {
    const { members, start } = view
    const ghosts = Array.from({ length: 9 }, (_, i) => ({ peer: `ghost${i}`, boot: 'g' }))
    const next = { ...view, epoch: view.epoch + 1 }
    const values: ViewValue[] = [
      { ...next, members: [this.asMember()] },
      { ...next, members: [...members, ...ghosts] },
      { ...next, members: members.filter((_, i) => i !== this.random.below(members.length)) },
      { ...next, start: { round: start.round + 1000, result: digest('never') } },
      { ...next, start: { round: start.round + 1, result: digest('never') } },
      { ...next, start: { round: 0, result: null } },
      { ...next, members: [...members].reverse() },
      next,
    ]
    const value = values[this.random.below(values.length)] ?? next
    return value.members.length === 0 ? next : value
  }

  /** A certificate as good as it can make one: its own vote alone, at every place, or others' votes on something else. */
  forged(before: ViewValue, value: ViewValue): Proven {
    const ballot = { n: 1 + this.random.below(4), peer: this.node.id }
    const peers = before.members.map(({ peer }) => peer)
    const own = this.#sign({ kind: 'accept', job: 'sim', before, ballot, value })
    const everywhere = {
      ballot,
      voters: peers.map((_, i) => i),
      signatures: Buffer.concat(peers.map(() => own)).toString('base64'),
    }
    const old = this.heard.flatMap((m) => (m.t === 'decided' ? m.path.map((p) => p.certificate) : []))
    const endorsed = this.heard.flatMap((m) => (m.t === 'accept' ? [m.certificate] : []))
    const all = [everywhere, this.provenByItself(before, value).certificate, ...old, ...endorsed]
    return { value, certificate: all[this.random.below(all.length)] ?? everywhere }
  }

  provenByItself(before: ViewValue, value: ViewValue): Proven {
    const ballot = { n: 1, peer: this.node.id }
    const question: Question = { kind: 'accept', job: 'sim', before, ballot, value }
    return { value, certificate: certify(question, new Map([[this.node.id, this.#sign(question)]])) }
  }

  /** Asks for promises, and then half of the members for one value and half for another. */
  openBallot(before: ViewValue): void {
    const { id, world, machine } = this.node
    const n = (machine?.state.highestBallot ?? 0) + 1 + this.random.below(3)
    const ballot = { n, peer: id }
    const scope = { ringId: before.ringId, epoch: before.epoch + 1 }
    const values = [this.evil(before), this.evil(before)]
    const own = (value: ViewValue): Map<string, Uint8Array> =>
      new Map([[id, this.#sign({ kind: 'endorse', job: 'sim', before, ballot, value })]])
    this.#ploy = { before, ballot, values, votes: values.map(own), certificates: values.map(() => null) }
    this.say({ t: 'prepare', ...scope, ballot })
    world.later(40, () => {
      for (const peer of world.nodes.keys()) {
        const value = values[this.random.below(2)]
        if (value === undefined) continue
        this.#send(peer, { t: 'propose', ...scope, ballot, value, endorsement: null })
      }
    })
  }

  /** With a quorum of endorsements, and then of votes, it goes on as an honest proposer would: with both values. */
  #collect(from: string, message: Extract<ViewMessage, { t: 'endorsed' | 'accepted' }>): void {
    const ploy = this.#ploy
    if (ploy === null || message.ballot.n !== ploy.ballot.n || message.epoch !== ploy.before.epoch + 1) return
    const { before, ballot } = ploy
    const kind = message.t === 'endorsed' ? 'endorse' : 'accept'
    const signature = Buffer.from(message.signature, 'base64')
    const needed = votesNeeded(this.node.world.options.quorum, before.members.length)
    ploy.values.forEach((value, i) => {
      const question: Question = { kind, job: 'sim', before, ballot, value }
      const isRight = simSigner(from, this.node.world.options.signing).verify(
        from,
        voteBytes(question),
        signature,
      )
      const votes = ploy.votes[i]
      if (!isRight || votes === undefined || (kind === 'accept') !== (ploy.certificates[i] !== null)) return
      votes.set(from, signature)
      if (votes.size < needed) return
      const certificate = certify(question, votes)
      if (kind === 'accept') {
        this.say({ t: 'decided', path: [{ value, certificate }] })
        return
      }
      ploy.certificates[i] = certificate
      votes.clear()
      votes.set(this.node.id, this.#sign({ ...question, kind: 'accept' }))
      this.say({ t: 'accept', ringId: before.ringId, epoch: value.epoch, value, certificate })
    })
  }

  #lyingStatus(message: StatusMessage): StatusMessage {
    const others = [...this.node.world.nodes.keys()].filter((id) => id !== this.node.id)
    const far = { round: 1_000_000, hash: digest('far') }
    const lies: Partial<StatusMessage>[] = [
      { suspects: others },
      { suspects: others.slice(0, 1) },
      { ringId: digest('another ring').slice(0, 32), epoch: 9, viewId: 'ff', active: true, state: far },
      { epoch: message.epoch + 100, active: true },
      { leaving: true },
      { abandoned: true },
    ]
    const { turn } = message
    if (turn !== null && turn.done !== null) {
      lies.push({ turn: { ...turn, prepared: true } }, { committed: { round: turn.round, hash: turn.done } })
    }
    return { ...message, ...lies[this.random.below(lies.length)] }
  }

  #vote(kind: VoteKind, before: ViewValue, ballot: Ballot, value: ViewValue): string {
    return Buffer.from(this.#sign({ kind, job: 'sim', before, ballot, value })).toString('base64')
  }

  #sign(question: Question): Uint8Array {
    return this.#signer.sign(voteBytes(question))
  }

  #send(to: string, message: ViewMessage): void {
    const { id, world, isUp } = this.node
    if (to !== id && isUp) world.network.send(id, to, message)
  }
}
