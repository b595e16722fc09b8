/** A few view machines driven by hand: every message waits until the test delivers or drops it. */
import { ViewMachine } from '../src/view/machine.ts'
import type { Durable, Mark, ViewMessage } from '../src/view/messages.ts'
import { EMPTY_DURABLE } from '../src/view/state.ts'
import type { Effect, Event, MachineState, QuorumMode } from '../src/view/state.ts'
import { simSigner } from './sim/signer.ts'

/** A message on its way. */
export interface Envelope {
  readonly from: string
  readonly to: string
  readonly message: ViewMessage
}

/** What one node did, in order. */
export type Done = Exclude<Effect, { do: 'log' }>

const PEER_TIMEOUT_MS = 1000

interface Node {
  machine: ViewMachine
  durable: Durable
  storedResult: Mark | null
  state: Mark
  boot: number
  readonly effects: Done[]
}

export class MachineRig {
  now = 0
  waiting: Envelope[] = []
  readonly #nodes = new Map<string, Node>()

  /** Connected nodes; unless told otherwise they have agreed on a first view of all of them. */
  constructor(ids: readonly string[], quorum: QuorumMode = 'majority', { form } = { form: true }) {
    for (const id of ids) {
      const state = { round: 0, hash: '00' }
      const kept = { durable: EMPTY_DURABLE, held: null }
      const machine = new ViewMachine(this.#options(id, 1, ids.length, quorum), kept, state, 0)
      this.#nodes.set(id, {
        machine,
        durable: EMPTY_DURABLE,
        storedResult: null,
        state,
        boot: 1,
        effects: [],
      })
    }
    for (const a of ids) for (const b of ids) if (a !== b) this.post(a, { on: 'connected', peer: b })
    if (!form) return
    for (let i = 0; i < 20; i++) this.pass(50)
    if (ids.some((id) => this.state(id).durable.view?.epoch !== 1)) throw new Error('no first view')
    for (const id of ids) this.#node(id).effects.length = 0
  }

  state(id: string): MachineState {
    return this.#node(id).machine.state
  }

  /** What the node has on disk. */
  durable(id: string): Durable {
    return this.#node(id).durable
  }

  effects(id: string): readonly Done[] {
    return this.#node(id).effects
  }

  post(id: string, event: Event): void {
    const node = this.#node(id)
    for (const effect of node.machine.handle(event, this.now)) {
      if (effect.do === 'log') continue
      node.effects.push(effect)
      if (effect.do === 'send') this.waiting.push({ from: id, to: effect.to, message: effect.message })
      if (effect.do !== 'persist') continue
      node.durable = effect.durable
      if (effect.withResult) node.storedResult = effect.durable.computed
    }
  }

  /** Delivers the waiting messages that fit, in order, and what they cause; others wait on. */
  deliver(fits: (envelope: Envelope) => boolean = () => true): void {
    for (let i = this.waiting.findIndex(fits); i >= 0; i = this.waiting.findIndex(fits)) {
      const [envelope] = this.waiting.splice(i, 1)
      if (envelope === undefined) return
      this.post(envelope.to, { on: 'message', from: envelope.from, message: envelope.message })
    }
  }

  drop(fits: (envelope: Envelope) => boolean = () => true): void {
    this.waiting = this.waiting.filter((envelope) => !fits(envelope))
  }

  /** Lets time pass with everything delivered. */
  pass(ms: number): void {
    this.tick(ms)
    this.deliver()
  }

  /** Lets time pass with nothing delivered. */
  tick(ms: number): void {
    this.now += ms
    for (const id of this.#nodes.keys()) this.post(id, { on: 'tick' })
  }

  /** Every node offers the next round and its exchange ends with the same result; no message of it is delivered yet. */
  computeRound(round: number, hash: string): void {
    for (const id of this.#nodes.keys()) this.contribute(id, round)
    this.deliver()
    for (const id of this.#nodes.keys()) {
      const { epoch } = this.state(id).durable.view ?? { epoch: 0 }
      this.post(id, { on: 'computed', epoch, round, hash })
    }
  }

  contribute(id: string, round: number): void {
    const { hash } = this.#node(id).state
    const contribution = { round, length: 4, weight: 1, wire: 'f32', state: hash, commitment: null }
    this.post(id, { on: 'contribute', contribution })
  }

  /** The caller has written the state after a round. */
  apply(id: string, state: Mark): void {
    this.#node(id).state = state
    this.post(id, { on: 'state', state })
  }

  /** The process dies and comes back with what is on its disk; the others see both. */
  restart(id: string, { keepsResult } = { keepsResult: true }): void {
    const node = this.#node(id)
    this.drop(({ from, to }) => from === id || to === id)
    node.boot += 1
    const options = this.#options(id, node.boot, this.#nodes.size, this.state(id).options.quorum)
    const kept = { durable: node.durable, held: keepsResult ? node.storedResult : null }
    node.machine = new ViewMachine(options, kept, node.state, this.now)
    node.effects.length = 0
    for (const other of this.#nodes.keys()) {
      if (other === id) continue
      this.post(other, { on: 'disconnected', peer: id })
      this.post(other, { on: 'connected', peer: id })
      this.post(id, { on: 'connected', peer: other })
    }
  }

  /** Two nodes lose sight of each other. */
  part(a: string, b: string): void {
    this.post(a, { on: 'disconnected', peer: b })
    this.post(b, { on: 'disconnected', peer: a })
  }

  #options(self: string, boot: number, minMembers: number, quorum: QuorumMode) {
    return {
      self,
      boot: `${self}.${boot}`,
      job: 'rig',
      observer: false,
      minMembers,
      maxMembers: 16,
      quorum,
      signer: simSigner(self),
      peerTimeoutMs: PEER_TIMEOUT_MS,
      genesisSettleMs: 100,
      stragglerMs: 60_000,
    } as const
  }

  #node(id: string): Node {
    const node = this.#nodes.get(id)
    if (node === undefined) throw new Error(`no node ${id}`)
    return node
  }
}
