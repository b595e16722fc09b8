/** One simulated node: the real view machine, a store that survives crashes, and a caller that loops like the daemon. */
import { createHash } from 'node:crypto'
import { ViewMachine } from '../../src/view/machine.ts'
import type { Durable, Mark, Turn, ViewMessage } from '../../src/view/messages.ts'
import { isMinority, isSynced, ringTarget } from '../../src/view/questions.ts'
import { EMPTY_DURABLE, isParticipant, type Effect, type Event } from '../../src/view/state.ts'
import { durableSchema, viewMessageSchema } from '../../src/view/messages.ts'
import type { World } from './world.ts'

/** The shared state of the toy application: the result hash of every round. */
export type Log = readonly string[]

export class SimNode {
  readonly id: string
  readonly world: World
  durable: Durable = EMPTY_DURABLE
  /** the stored result of the round prepared last */
  storedResult: Mark | null = null
  /** durable application state */
  log: Log = []
  machine: ViewMachine | null = null
  boot = 0
  #commits: { round: number; hash: string } | null = null
  #busy = false
  #contributed = 0
  #attempt = 0

  constructor(id: string, world: World) {
    this.id = id
    this.world = world
  }

  get isUp(): boolean {
    return this.machine !== null
  }

  mark(): Mark {
    return { round: this.log.length, hash: hashOf(this.log) }
  }

  start(): void {
    const { clock, options } = this.world
    this.boot += 1
    this.#commits = null
    this.#busy = false
    this.#contributed = 0
    // What is read back went through bytes, as in a real store.
    const durable = durableSchema.parse(JSON.parse(JSON.stringify(this.durable)))
    this.machine = new ViewMachine(
      {
        self: this.id,
        boot: `${this.id}.${this.boot}`,
        job: 'sim',
        observer: false,
        minMembers: options.minMembers,
        maxMembers: 64,
        quorum: options.quorum,
        peerTimeoutMs: options.peerTimeoutMs,
        genesisSettleMs: 200,
        stragglerMs: 20_000,
      },
      { durable, held: this.storedResult },
      this.mark(),
      clock.now,
    )
    this.#tickLater(this.boot)
  }

  crash(): void {
    this.machine = null
    this.#attempt += 1
  }

  post(event: Event): void {
    const { machine } = this
    if (machine === null) return
    for (const effect of machine.handle(event, this.world.clock.now)) {
      this.#do(effect)
      if (this.machine !== machine) return // crashed between two effects
    }
    this.#loop()
  }

  /** The caller gives up its pending round, and tries again later. */
  withdraw(): void {
    this.#contributed = 0
    this.post({ on: 'withdraw' })
  }

  receive(from: string, message: ViewMessage): void {
    this.post({ on: 'message', from, message: viewMessageSchema.parse(JSON.parse(JSON.stringify(message))) })
  }

  #do(effect: Effect): void {
    switch (effect.do) {
      case 'persist':
        // A crash may hit just before or just after the write.
        if (this.world.crashesAtPersist(this)) return
        if (effect.withResult) this.storedResult = effect.durable.prepared
        if (effect.withResult && this.world.crashesAtPersist(this)) return
        this.durable = effect.durable
        this.world.crashesAtPersist(this)
        break
      case 'send':
        this.world.send(this.id, effect.to, effect.message)
        break
      case 'start-round':
        this.#exchange(effect.turns)
        break
      case 'abort-round':
        this.#attempt += 1
        break
      case 'commit':
        this.#commit(effect.round, effect.hash)
        break
      case 'reject':
        this.#contributed = 0
        break
      case 'view':
      case 'log':
        break
    }
  }

  /** The data plane: done when all members are in it and stay reachable; it may also break, or compute nonsense. */
  #exchange(turns: readonly Turn[]): void {
    const view = this.machine?.state.durable.view
    const first = turns[0]
    if (view == null || first === undefined) return
    this.#attempt += 1
    const attempt = this.#attempt
    const boot = this.boot
    const { epoch, round } = first
    const members = view.members.map((m) => m.peer)
    const name = hashOf([
      view.ringId,
      String(epoch),
      ...members,
      String(round),
      ...turns.map((t) => `${t.weight}`),
    ])
    const isCurrent = (): boolean => this.isUp && this.boot === boot && this.#attempt === attempt
    this.world.exchange(`${name}`, this.id, members, isCurrent, (failed) => {
      if (!isCurrent()) return
      if (failed !== null) {
        this.post({ on: 'failed', epoch, round, code: 'PEER_LOST', peer: failed })
        return
      }
      const hash = this.world.miscomputes() ? hashOf([name, this.id]) : name
      this.post({ on: 'computed', epoch, round, hash })
    })
  }

  /** The caller applies the result after a while: a crash before that loses it here. */
  #commit(round: number, hash: string): void {
    this.world.oracle.committed(this.id, round, hash)
    this.#commits = { round, hash }
    const { boot } = this
    this.world.later(20, () => {
      if (!this.isUp || this.boot !== boot) return
      this.#commits = null
      this.#contributed = 0
      if (round !== this.log.length + 1)
        throw new Error(`${this.id} commits ${round} on state ${this.log.length}`)
      this.#setLog([...this.log, hash])
    })
  }

  #setLog(log: Log): void {
    this.log = log
    this.world.oracle.applied(this.id, log)
    this.post({ on: 'state', state: this.mark() })
  }

  /** What the daemon does between events: get ready, fetch state if needed, contribute. */
  #loop(): void {
    const s = this.machine?.state
    if (s === undefined || this.#busy || this.#commits !== null || this.#contributed > 0) return
    if (!isParticipant(s) || isMinority(s)) return
    if (isSynced(s)) {
      this.#busy = true
      const { boot } = this
      this.world.later(60, () => {
        if (!this.isUp || this.boot !== boot) return
        this.#busy = false
        const round = this.log.length + 1
        if (this.#contributed > 0 || this.#commits !== null) return
        this.#contributed = round
        // A weight nobody else has and that changes with every try: two runs of one round never look alike.
        const weight = this.world.uniqueWeight()
        const contribution = {
          round,
          length: 8,
          weight,
          wire: 'f32',
          state: this.mark().hash,
          commitment: null,
        }
        this.post({ on: 'contribute', contribution })
      })
      return
    }
    const target = ringTarget(s)
    if (target?.hash == null || target.sources.length === 0) return
    const source = this.world.nodes.get(target.sources[this.world.random.below(target.sources.length)])
    const { boot } = this
    const wanted = target.hash
    this.#busy = true
    this.world.later(50, () => {
      if (!this.isUp || this.boot !== boot) return
      this.#busy = false
      if (source === undefined || !source.isUp || !this.world.isConnected(this.id, source.id)) return
      if (source.mark().hash === wanted) this.#setLog(source.log)
    })
  }

  #tickLater(boot: number): void {
    this.world.later(0, () => {
      const tick = (): void => {
        if (!this.isUp || this.boot !== boot) return
        this.post({ on: 'tick' })
        this.world.clock.after(this.world.options.peerTimeoutMs / 20, tick)
      }
      tick()
    })
  }
}

export function hashOf(parts: readonly string[]): string {
  return createHash('sha3-256').update(JSON.stringify(parts)).digest('hex')
}
