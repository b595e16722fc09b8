/** One simulated node: the real view machine, a store that survives crashes, and a caller that loops like the daemon. */
import { mayGo, ViewMachine } from '../../src/view/machine.ts'
import {
  durableSchema,
  viewMessageSchema,
  type Durable,
  type Mark,
  type Turn,
  type ViewMessage,
} from '../../src/view/messages.ts'
import { EMPTY_DURABLE, type Effect, type Event } from '../../src/view/state.ts'
import { isLonely } from '../../src/view/merge.ts'
import { Caller } from './caller.ts'
import type { HostileMember } from './hostile.ts'
import { digest, EMPTY_LOG, type Log } from './log.ts'
import { simSigner } from './signer.ts'
import type { World } from './world.ts'

/** As in the node: how long a leaver keeps voting. */
const LEAVE_WAIT_MS = 1500
const LEAVE_POLL_MS = 20
const STRAGGLER_MS = 20_000
const GENESIS_SETTLE_MS = 200
const TICKS_PER_TIMEOUT = 20

export class SimNode {
  readonly id: string
  readonly place: number
  readonly world: World
  /** set for a member that lies */
  hostile: HostileMember | null = null
  durable: Durable = EMPTY_DURABLE
  /** the stored result of the round computed last */
  storedResult: Mark | null = null
  /** durable application state */
  log: Log = EMPTY_LOG
  machine: ViewMachine | null = null
  /** counts process starts */
  boot = 0
  #caller: Caller | null = null
  #attempt = 0
  /** before the event under way: in no view, or long without a quorum, when a node can check less */
  #trusting = false
  #received = 0
  /** what waits while the process is stopped, null while it runs */
  #stopped: (() => void)[] | null = null
  readonly #clockRate: number

  constructor(id: string, place: number, world: World) {
    this.id = id
    this.place = place
    this.world = world
    const skew = world.options.clockSkew
    this.#clockRate = skew === 0 ? 1 : world.random.between(1 - skew, 1 + skew)
  }

  get isUp(): boolean {
    return this.machine !== null
  }

  get isStopped(): boolean {
    return this.#stopped !== null
  }

  mark(): Mark {
    return { round: this.log.round, hash: this.log.hash }
  }

  start(): void {
    const { options } = this.world
    this.boot += 1
    this.#stopped = null
    // What is read back went through bytes, as in a real store.
    const durable = durableSchema.parse(JSON.parse(JSON.stringify(this.durable)))
    this.machine = new ViewMachine(
      {
        self: this.id,
        boot: `${this.id}.${this.boot}`,
        job: 'sim',
        observer: false,
        minMembers: options.minMembers,
        maxMembers: options.maxMembers,
        quorum: options.quorum,
        signer: this.world.oracle.watch(this.id, simSigner(this.id, options.signing)),
        peerTimeoutMs: options.peerTimeoutMs,
        genesisSettleMs: GENESIS_SETTLE_MS,
        stragglerMs: STRAGGLER_MS,
      },
      { durable, held: this.storedResult },
      this.mark(),
      this.#now(),
    )
    this.#caller = options.rounds ? new Caller(this, this.machine) : null
    this.#tickFrom(this.machine)
  }

  crash(): void {
    this.machine = null
    this.#stopped = null
    this.#attempt += 1
  }

  /** SIGSTOP: nothing runs here until `wake`; what comes meanwhile waits. */
  stop(): void {
    if (this.isUp) this.#stopped ??= []
  }

  wake(): void {
    const waiting = this.#stopped ?? []
    this.#stopped = null
    for (const run of waiting) this.run(run)
  }

  /** Runs something of this process: now, or when it runs again. */
  run(what: () => void): void {
    if (this.#stopped === null) what()
    else this.#stopped.push(what)
  }

  /** Runs something of this process after a while, unless it has died. */
  later(meanMs: number, what: () => void): void {
    const { machine } = this
    this.world.later(meanMs, () => {
      if (this.machine === machine) this.run(() => (this.machine === machine ? what() : undefined))
    })
  }

  post(event: Event): void {
    const { machine } = this
    if (machine === null) return
    this.run(() => {
      if (this.machine !== machine) return
      this.#trusting = machine.state.durable.view === null || isLonely(machine.state)
      for (const effect of machine.handle(event, this.#now())) {
        this.#do(effect, machine)
        if (this.machine !== machine) return // crashed between two effects
      }
      this.#caller?.go()
    })
  }

  /** The caller gives up its pending round, and tries again later. */
  withdraw(): void {
    this.run(() => {
      this.#caller?.onReject()
      this.post({ on: 'withdraw' })
    })
  }

  /** As the node's `stop`: says so, votes on until it may go, then the process ends. */
  leave(): void {
    const { machine } = this
    if (machine === null) return
    this.#caller = null
    this.post({ on: 'withdraw' })
    this.post({ on: 'leave' })
    const deadline = this.world.clock.now + LEAVE_WAIT_MS
    const wait = (): void => {
      if (this.machine !== machine) return
      if (mayGo(machine.state) || this.world.clock.now >= deadline) this.world.crash(this.id)
      else this.world.clock.after(LEAVE_POLL_MS, wait)
    }
    this.world.clock.after(LEAVE_POLL_MS, wait)
  }

  receive(from: string, message: ViewMessage): void {
    this.hostile?.hears(from, message)
    this.#received += 1
    const checked = this.#received % this.world.options.checkedMessages === 0
    this.post({
      on: 'message',
      from,
      message: checked ? viewMessageSchema.parse(JSON.parse(JSON.stringify(message))) : message,
    })
  }

  /** Durable application state has changed. */
  setLog(log: Log): void {
    this.log = log
    this.world.oracle.applied(this.id, log)
    this.post({ on: 'state', state: this.mark() })
  }

  #do(effect: Effect, machine: ViewMachine): void {
    switch (effect.do) {
      case 'persist':
        // A crash may hit just before or just after each write.
        if (this.world.crashesAtPersist(this.id)) return
        if (effect.withResult) {
          this.storedResult = effect.durable.computed
          if (this.world.crashesAtPersist(this.id)) return
        }
        this.durable = effect.durable
        this.world.oracle.stored(this.id, this.durable.view)
        this.world.crashesAtPersist(this.id)
        break
      case 'send':
        this.#send(effect.to, effect.message)
        break
      case 'start-round':
        this.#exchange(effect.turns, machine)
        break
      case 'abort-round':
        this.#attempt += 1
        break
      case 'commit': {
        if (machine.state.durable.view === null) throw new Error(`${this.id} commits outside any view`)
        this.world.oracle.committed(this.id, effect.round, effect.hash)
        this.#caller?.onCommit(effect.round, effect.hash)
        break
      }
      case 'reject':
        this.#caller?.onReject()
        break
      case 'view':
        if (effect.value !== null) this.world.oracle.agreed(this.id, effect.value, this.#trusting)
        break
      case 'log':
        break
    }
  }

  #send(to: string, message: ViewMessage): void {
    const said = this.hostile === null ? message : this.hostile.alters(message)
    if (said !== null) this.world.network.send(this.id, to, said)
  }

  /** The data plane: done when all members are in it and stay reachable; it may also break, or compute nonsense. */
  #exchange(turns: readonly Turn[], machine: ViewMachine): void {
    const { view } = machine.state.durable
    const first = turns[0]
    if (view === null || first === undefined) return
    this.#attempt += 1
    const attempt = this.#attempt
    const { epoch, round } = first
    const members = view.members.map((m) => m.peer)
    const weights = turns.map((turn) => turn.weight)
    const name = digest([view.ringId, epoch, members, round, weights].join(' '))
    const isCurrent = (): boolean => this.machine === machine && !this.isStopped && this.#attempt === attempt
    this.world.dataPlane.enter(name, this.id, members, isCurrent, (failed) => {
      if (!isCurrent()) return
      if (failed !== null) {
        this.post({ on: 'failed', epoch, round, code: 'PEER_LOST', peer: failed })
        return
      }
      const hash = this.world.happens(this.world.options.miscompute) ? digest(`${name} ${this.id}`) : name
      this.world.oracle.computed(view, hash)
      this.post({ on: 'computed', epoch, round, hash })
    })
  }

  #tickFrom(machine: ViewMachine): void {
    const { clock, options } = this.world
    const tick = (): void => {
      if (this.machine !== machine) return
      if (!this.isStopped) this.post({ on: 'tick' })
      clock.after(options.peerTimeoutMs / TICKS_PER_TIMEOUT, tick)
    }
    clock.after(this.world.random.between(0, options.peerTimeoutMs / TICKS_PER_TIMEOUT), tick)
  }

  #now(): number {
    return this.world.clock.now * this.#clockRate
  }
}
