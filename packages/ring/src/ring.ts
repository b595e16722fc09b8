/**
 * A ring node: libp2p, the view machine, links, rounds and state sync put together, and the calls of its owner. What
 * the machine wants done is in effects.ts; the decisions are made in view/.
 */
import { randomUUID } from 'node:crypto'
import type { Libp2p } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import * as defaults from './defaults.ts'
import { AwakeClock } from './awake-clock.ts'
import { EffectRunner } from './effects.ts'
import { RingError } from './errors.ts'
import { LinkService } from './link/link-service.ts'
import type { BuiltNode } from './net/libp2p-node.ts'
import type { NetCounters } from './net/net-counters.ts'
import { Network } from './net/network.ts'
import { PeerMesh } from './net/peer-mesh.ts'
import { PathMeter } from './order/path-meter.ts'
import { startNode } from './net/start-node.ts'
import { RequestService } from './net/request-service.ts'
import { contributionOf } from './round/contribution.ts'
import { RoundRunner } from './round/runner.ts'
import { Refusals } from './refusals.ts'
import { RingEmitter } from './ring-emitter.ts'
import { ChangeSignal } from './change-signal.ts'
import { StateFetcher } from './sync/fetch.ts'
import { markOf, StateSync } from './sync/state-sync.ts'
import { mayTakePart } from './options.ts'
import type { RequestOptions, Ring, RingEvents, RingOptions, RingStatus, RoundResult, View } from './types.ts'
import { ViewDriver } from './view/driver.ts'
import { ed25519Signer } from './view/ed25519-signer.ts'
import { mayGo, ViewMachine } from './view/machine.ts'
import { describePeers, isMinority, isSynced, phaseOf, ringTarget } from './view/questions.ts'
import { isParticipant } from './view/state.ts'
import { decodeDurable, OUTDATED_VIEW } from './view/store-codec.ts'

/** One node of the ring over a libp2p node that is built and not started; made by `createRing`. */
export class RingNode implements Ring {
  readonly peerId: string
  readonly #o: RingOptions
  readonly #limits: defaults.RingLimits
  readonly #node: Libp2p
  readonly #boot = randomUUID()
  readonly #emitter = new RingEmitter()
  readonly #mesh: PeerMesh
  readonly #network: Network
  readonly #paths: PathMeter
  readonly #runner: RoundRunner
  readonly #sync: StateSync
  readonly #linkService: LinkService
  readonly #requests: RequestService
  readonly #refusals = new Refusals()
  readonly #effects: EffectRunner
  #driver: ViewDriver | null = null
  #timer: NodeJS.Timeout | null = null
  #meterTimer: NodeJS.Timeout | null = null
  #stage: 'new' | 'started' | 'stopping' | 'stopped' = 'new'
  #stopped: Promise<void> | null = null
  #starting: Promise<void> | null = null
  readonly #changes = new ChangeSignal()

  constructor(options: RingOptions, built: BuiltNode, counters: NetCounters) {
    const { node } = built
    const isAllowed = (peer: string): boolean => mayTakePart(options, peer)
    this.#o = options
    this.#limits = { ...defaults.DEFAULT_LIMITS, ...options.limits }
    this.#node = node
    this.peerId = options.identity.peerId
    this.#runner = new RoundRunner({
      identity: options.identity,
      limits: this.#limits,
      wire: options.wire,
      integrity: options.integrity,
      handlers: {
        onComputed: (epoch, round, hash) => this.#post({ on: 'computed', epoch, round, hash }),
        onFailed: (epoch, round, error) => this.#onRoundFailed(epoch, round, error),
        onPace: (predecessor, bytesPerMs) => this.#paths.onRate(predecessor, bytesPerMs),
      },
    })
    this.#linkService = new LinkService({
      node,
      identity: options.identity,
      limits: this.#limits,
      peerTimeoutMs: options.peerTimeoutMs,
      state: options.state,
      carrier: options.carrier ?? 'direct',
      sockets: options.sockets ?? defaults.DEFAULT_DIRECT_SOCKETS,
      listen: options.listen,
      isAllowed,
      view: () => this.#effects.view,
      links: () => this.#effects.links,
      isPunched: (connection) => this.#network.isPunched(connection),
      nextChange: (signal) => this.#changes.next(signal),
      onRejected: (error) => this.#count(error),
    })
    this.#effects = new EffectRunner({
      peerId: this.peerId,
      logger: options.logger,
      emitter: this.#emitter,
      runner: this.#runner,
      dial: this.#linkService.dialRound.bind(this.#linkService),
      send: (to, message) => this.#mesh.send(to, message),
      count: (error) => this.#count(error),
    })
    this.#requests = new RequestService({
      node,
      identity: options.identity,
      job: options.job,
      limits: this.#limits,
      isAllowed,
      open: (peer, protocol, signal) => this.#mesh.openStream(peer, protocol, signal),
      onRejected: (error) => this.#count(error),
    })
    const dialState = this.#linkService.dialState.bind(this.#linkService)
    const fetcher = new StateFetcher(dialState, this.#limits, (error) => this.#count(error))
    this.#sync = new StateSync(fetcher, options.state, options.logger, (error) => this.#count(error))
    this.#mesh = new PeerMesh({
      node,
      job: options.job,
      boot: this.#boot,
      bootstrap: [...options.bootstrap, ...(options.network?.relays ?? [])],
      limits: this.#limits,
      peerTimeoutMs: options.peerTimeoutMs,
      logger: options.logger,
      counters,
      waitsForHolePunch: options.network?.holePunching === true,
      isPrivate: options.network?.swarmKey !== undefined,
      isAllowed,
      isMember: (peer) => this.#isMember(peer),
      handlers: {
        onConnected: (peer) => {
          this.#network.noteMet(peer)
          this.#post({ on: 'connected', peer })
          this.#emitter.emit('peer', { peerId: peer, alive: true })
        },
        onDisconnected: (peer) => {
          this.#post({ on: 'disconnected', peer })
          this.#emitter.emit('peer', { peerId: peer, alive: false })
        },
        onMessage: (from, message) => this.#post({ on: 'message', from, message }),
        onPaths: (from, row) => this.#paths.onRow(from, row),
        onRejected: (error) => this.#count(error),
      },
    })
    this.#paths = new PathMeter({
      self: this.peerId,
      peers: () => this.#mesh.peers,
      isMember: (peer) => peer === this.peerId || this.#isMember(peer),
      measure: (peer, signal) => built.ping.ping(peerIdFromString(peer), { signal }),
      tell: (peer, message) => this.#mesh.send(peer, message),
      onChanged: (paths) => this.#post({ on: 'paths', paths }),
    })
    this.#network = new Network({
      built,
      mesh: this.#mesh,
      job: options.job,
      options: options.network ?? {},
      limits: this.#limits,
      counters,
      logger: options.logger,
      isObserver: options.role === 'observer',
      isAllowed,
      isMember: (peer) => this.#isMember(peer),
      onRejected: (error) => this.#count(error),
      onVerdict: (verdict) => this.#emitter.emit('reachability', verdict),
    })
  }

  get addresses(): readonly string[] {
    return this.#mesh.addresses
  }

  get view(): View | null {
    return this.#effects.view
  }

  get status(): RingStatus {
    const machine = this.#driver?.machine.state ?? null
    const mesh = this.#mesh.traffic
    const { opened, statesServed } = this.#linkService
    const { counts, view } = this.#effects
    return {
      phase: machine === null || this.#stage !== 'started' ? 'stopped' : phaseOf(machine),
      activeRound: this.#runner.activeRound,
      members: machine === null ? [] : describePeers(machine, view),
      network: this.#network.status,
      counters: {
        bytesSent: mesh.sent + this.#runner.bytesSent,
        bytesReceived: mesh.received + this.#runner.bytesReceived,
        roundsCommitted: counts.committed,
        roundsAbandoned: counts.abandoned,
        viewChanges: counts.views,
        statesFetched: this.#sync.fetched,
        statesServed,
        linksDirect: opened.direct,
        linksStream: opened.stream,
        rejected: { ...this.#refusals.counts },
      },
    }
  }

  on<E extends keyof RingEvents>(event: E, listener: (value: RingEvents[E]) => void): () => void {
    return this.#emitter.on(event, listener)
  }

  start(): Promise<void> {
    this.#starting ??= this.#start()
    return this.#starting
  }

  async #start(): Promise<void> {
    const o = this.#o
    const durable = decodeDurable(await o.store.load(), () => o.logger.warn({}, OUTDATED_VIEW))
    const held = this.#runner.restore((await o.store.loadResult?.()) ?? null)
    const clock = new AwakeClock(o.peerTimeoutMs / defaults.STANDSTILLS_PER_TIMEOUT)
    const machine = new ViewMachine(
      {
        self: this.peerId,
        observer: o.role === 'observer',
        boot: this.#boot,
        job: o.job,
        minMembers: o.minMembers,
        maxMembers: this.#limits.members,
        quorum: o.quorum,
        signer: ed25519Signer(o.identity),
        peerTimeoutMs: o.peerTimeoutMs,
        genesisSettleMs: Math.min(defaults.GENESIS_SETTLE_MS, o.peerTimeoutMs / 2),
        stragglerMs: this.#limits.stragglerMs,
      },
      { durable, held },
      markOf(this.#o.state),
      clock.now(),
    )
    this.#driver = new ViewDriver(machine, o.store, {
      now: () => clock.now(),
      resultBytes: () => this.#runner.heldBytes,
      onEffect: (effect) => this.#effects.run(effect),
      onChanged: () => this.#changes.notify(),
      onBroken: (error) => this.#onBroken(error),
    })
    if (o.quorum === 'any') {
      o.logger.warn({ quorum: 'any' }, 'quorum any: two halves of this ring may both go on and diverge')
    }
    await startNode(this.#node, o.listen)
    await this.#linkService.start()
    await this.#mesh.start(await this.#network.start())
    this.#stage = 'started'
    this.#timer = setInterval(() => this.#tick(), o.peerTimeoutMs / defaults.TICKS_PER_TIMEOUT)
    if (o.role !== 'observer')
      this.#meterTimer = setInterval(() => this.#paths.look(), defaults.PATHS_LOOK_MS)
    o.logger.info({ peer: this.peerId, addresses: this.addresses }, 'ring node listens')
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    await this.#starting?.catch(() => undefined) // a failed start has left nothing open
    const wasStarted = this.#stage === 'started'
    this.#stage = 'stopping'
    const stopped = new RingError('STOPPED', 'the ring node is stopping')
    this.#runner.reject(stopped)
    this.#changes.notify()
    if (wasStarted && this.#driver !== null) await this.#leave(this.#driver)
    if (this.#timer !== null) clearInterval(this.#timer)
    if (this.#meterTimer !== null) clearInterval(this.#meterTimer)
    this.#driver?.halt()
    this.#effects.close(stopped)
    this.#linkService.stop()
    await this.#network.stop()
    await this.#mesh.stop()
    await this.#node.stop()
    this.#effects.leave()
    this.#stage = 'stopped'
  }

  /** Tells the others, and keeps voting until they have a view without this node, or a moment has passed. */
  async #leave(driver: ViewDriver): Promise<void> {
    await driver.post({ on: 'withdraw' })
    await driver.post({ on: 'leave' })
    const deadline = performance.now() + defaults.LEAVE_WAIT_MS
    while (!mayGo(driver.machine.state) && performance.now() < deadline) await this.#changes.next()
  }

  async ready({ signal }: { signal?: AbortSignal } = {}): Promise<View> {
    const driver = await this.#participating()
    for (;;) {
      signal?.throwIfAborted()
      await driver.post({ on: 'state', state: markOf(this.#o.state) })
      this.#throwIfStopping()
      const s = driver.machine.state
      const { view } = this.#effects
      if (view !== null && isParticipant(s) && !isMinority(s)) {
        if (isSynced(s)) return view
        const target = ringTarget(s)
        if (target?.hash != null && target.sources.length > 0) {
          const { round, hash, sources } = target
          if (await this.#sync.run({ round, hash }, sources, signal)) continue
        }
      }
      await this.#changes.next(signal)
    }
  }

  vector(length: number): Float32Array {
    return this.#runner.vector(length)
  }

  async allReduce(vector: Float32Array, options: Parameters<Ring['allReduce']>[1]): Promise<RoundResult> {
    const { round, weight, signal } = options
    await this.#participating()
    signal?.throwIfAborted()
    const state = markOf(this.#o.state)
    const { chunkBytes } = this.#limits
    const offer = contributionOf(vector, options, state, { ...this.#o, chunkBytes })
    const result = this.#runner.open(vector, round, weight)
    const onAbort = (): void => {
      this.#runner.reject(signal?.reason)
      this.#post({ on: 'withdraw' })
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    this.#post({ on: 'state', state })
    this.#post(offer)
    try {
      return await result
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  peers(): string[] {
    return this.#mesh.peers
  }

  async handle(...how: Parameters<Ring['handle']>): Promise<() => Promise<void>> {
    return this.#requests.handle(...how)
  }

  async request(peer: string, protocol: string, bytes: Uint8Array, o: RequestOptions): Promise<Uint8Array> {
    await this.#running()
    return this.#requests.request(peer, protocol, bytes, o)
  }

  #onRoundFailed(epoch: number, round: number, error: RingError): void {
    this.#count(error)
    this.#effects.roundFailed(error)
    this.#post({ on: 'failed', epoch, round, code: error.code, peer: error.peer ?? null })
  }

  #onBroken(error: RingError): void {
    this.#count(error)
    this.#runner.reject(error)
    this.#effects.close(error)
    this.#stage = 'stopping'
    void this.stop()
  }

  async #running(): Promise<ViewDriver> {
    await this.#starting
    this.#throwIfStopping()
    if (this.#driver === null) throw new RingError('STOPPED', 'the ring node is not started: call start()')
    return this.#driver
  }

  async #participating(): Promise<ViewDriver> {
    if (this.#o.role === 'observer') throw new RingError('BAD_ARGUMENT', 'an observer is in no round')
    return this.#running()
  }

  #throwIfStopping(): void {
    if (this.#stage === 'stopping' || this.#stage === 'stopped') {
      throw new RingError('STOPPED', 'the ring node has been stopped')
    }
  }

  #post(event: Parameters<ViewDriver['post']>[0]): void {
    void this.#driver?.post(event)
  }

  #tick(): void {
    this.#post({ on: 'state', state: markOf(this.#o.state) })
    this.#post({ on: 'tick' })
  }

  #isMember(peer: string): boolean {
    return this.#effects.view?.members.includes(peer) === true
  }

  /** Counts what a peer did wrong, or what broke, and reports it unless there is too much of it. */
  #count(error: RingError): void {
    const { code, peer, suspects } = error
    const heldBack = this.#refusals.note(error, performance.now())
    if (heldBack === null) return
    const more = heldBack === 0 ? {} : { held_back: heldBack }
    this.#o.logger.warn({ code, peer, suspects, ...more, err: error }, 'rejected')
    this.#emitter.emit('error', error)
  }
}
