/** The caller's pending all-reduce: keeps its vector through view changes, runs the data plane, hands out the result. */
import type { Identity } from '@gym-node/wire'
import type { RingLimits } from '../defaults.ts'
import { RingError, toRingError } from '../errors.ts'
import type { ViewLinks } from '../link/view-links.ts'
import type { Integrity, RoundResult, View, WireType } from '../types.ts'
import type { Mark, Turn } from '../view/messages.ts'
import { exchange } from './exchange.ts'
import { Fingerprints, fingerprint, hashFacts, nameResult, type RoundFacts } from './fingerprint.ts'
import { decodeHeld, encodeHeld, type HeldResult } from './held-result.ts'
import { keepFreedMemory } from '../link/memory.ts'
import { RoundMemory } from './round-memory.ts'
import { Witness } from './witness.ts'

/** What the runner tells the view machine. */
export interface RunnerHandlers {
  onComputed(epoch: number, round: number, hash: string): void
  onFailed(epoch: number, round: number, error: RingError): void
  /** What a round showed of the link from the predecessor. */
  onPace(predecessor: string, bytesPerMs: number): void
}

/** What a runner works with. */
export interface RunnerOptions {
  readonly identity: Identity
  readonly limits: RingLimits
  readonly wire: WireType
  readonly integrity: Integrity
  readonly handlers: RunnerHandlers
}

/** A result with what its rounding left over, which counts from its commit on. */
interface Held extends HeldResult {
  readonly residual: Uint16Array | null
}

interface Pending {
  readonly vector: Float32Array
  readonly round: number
  readonly weight: number
  readonly startedAt: number
  readonly promise: PromiseWithResolvers<RoundResult>
  attempts: number
  bytesSent: number
  bytesReceived: number
}

/** At most one round at a time. */
export class RoundRunner {
  readonly #o: RunnerOptions
  #pending: Pending | null = null
  #attempt: AbortController | null = null
  #held: Held | null = null
  #memory: RoundMemory | null = null
  /** what the last committed round's rounding left over here, in bf16 */
  #residual: Uint16Array | null = null
  bytesSent = 0
  bytesReceived = 0

  constructor(options: RunnerOptions) {
    this.#o = options
    keepFreedMemory()
  }

  /** The computed result, as bytes for the store. */
  get heldBytes(): Uint8Array | null {
    return this.#held === null ? null : encodeHeld(this.#held)
  }

  /** Takes back a result that was stored before a restart; returns its name. Throws RingError BAD_STORE. */
  restore(bytes: Uint8Array | null): Mark | null {
    if (bytes === null) return null
    this.#held = { ...decodeHeld(bytes), residual: null }
    return { round: this.#held.round, hash: Buffer.from(this.#held.hash).toString('hex') }
  }

  /** Memory for a vector of `length`, which `open` takes like any other and the arithmetic reads in place. */
  vector(length: number): Float32Array {
    return this.#memoryFor(length).vector
  }

  /** The memory of rounds of `length`; one of another length is dropped, and goes when nobody has arrays of it. */
  #memoryFor(length: number): RoundMemory {
    if (this.#memory?.length !== length) {
      const { wire, limits } = this.#o
      this.#memory = new RoundMemory(wire, length, limits.chunkBytes)
    }
    return this.#memory
  }

  get activeRound(): number | null {
    return this.#pending?.round ?? null
  }

  /** Takes a contribution. Its promise settles by `commit` or `reject`. */
  open(vector: Float32Array, round: number, weight: number): Promise<RoundResult> {
    if (this.#pending !== null) {
      throw new RingError('BAD_ARGUMENT', `round ${this.#pending.round} is still pending; await it first`)
    }
    const promise = Promise.withResolvers<RoundResult>()
    const startedAt = performance.now()
    this.#pending = {
      vector,
      round,
      weight,
      startedAt,
      promise,
      attempts: 0,
      bytesSent: 0,
      bytesReceived: 0,
    }
    return promise.promise
  }

  /** Runs the exchange of one epoch and reports how it ended. */
  async start(view: View, links: ViewLinks | null, turns: readonly Turn[], position: number): Promise<void> {
    const pending = this.#pending
    if (pending === null) return
    const attempt = new AbortController()
    this.#attempt = attempt
    pending.attempts += 1
    const contributions = turns.map((turn, i) => ({
      peerId: view.members[i] ?? '',
      weight: turn.weight,
      commitment: turn.commitment === null ? null : new Uint8Array(Buffer.from(turn.commitment, 'hex')),
    }))
    const total = totalWeight(turns.map((turn) => turn.weight))
    const facts: RoundFacts = { view, round: pending.round, totalWeight: total, contributions }
    const { length } = pending.vector
    const memory = this.#memoryFor(length)
    const mean = memory.results.take()
    // bf16 loses a 256th at most, evenly up and down; only the coarse steps of int8 need to be made good.
    const residual = this.#o.wire !== 'int8' || links === null ? null : memory.residuals.take()
    try {
      const hash =
        links === null
          ? await this.#alone(pending, facts, mean)
          : await this.#exchange(pending, links, facts, position, { memory, mean, residual }, attempt.signal)
      attempt.signal.throwIfAborted()
      this.#drop()
      this.#held = { ...facts, mean, hash, residual }
    } catch (thrown) {
      // The exchange has ended: nothing writes here any more.
      memory.results.giveBack(mean)
      if (residual !== null) memory.residuals.giveBack(residual)
      if (attempt.signal.aborted) return
      const error = toRingError(thrown, 'PEER_LOST', 'round failed')
      this.#o.handlers.onFailed(view.epoch, pending.round, error)
      return
    }
    this.#o.handlers.onComputed(view.epoch, pending.round, Buffer.from(this.#held.hash).toString('hex'))
  }

  /** Forgets a result that another attempt replaces. */
  #drop(): void {
    if (this.#held === null) return
    const { mean, residual } = this.#held
    this.#memory?.results.giveBack(mean)
    if (residual !== null) this.#memory?.residuals.giveBack(residual)
    this.#held = null
  }

  /** Stops the exchange; the contribution stays. */
  abort(reason: RingError): void {
    this.#attempt?.abort(reason)
    this.#attempt = null
  }

  /** Hands out the result that the ring committed. Null when it is not held, which the machine never asks for. */
  commit(round: number, hash: string): RoundResult | null {
    const pending = this.#pending
    if (pending?.round !== round || this.#held?.round !== round) return null
    const { mean, totalWeight: total, view, contributions, hash: own, residual } = this.#held
    if (Buffer.from(own).toString('hex') !== hash) return null
    this.#pending = null
    this.#held = null
    if (residual !== null) {
      if (this.#residual !== null) this.#memory?.residuals.giveBack(this.#residual)
      this.#residual = residual
    }
    let lent: Float32Array | null = mean
    const result: RoundResult = {
      get mean() {
        if (lent === null) throw new RingError('BAD_ARGUMENT', `the mean of round ${round} was released`)
        return lent
      },
      release: () => {
        if (lent !== null) this.#memory?.results.giveBack(lent)
        lent = null
      },
      round,
      view,
      totalWeight: total,
      hash: own,
      contributors: view.members,
      contributions,
      attempts: pending.attempts,
      bytesSent: pending.bytesSent,
      bytesReceived: pending.bytesReceived,
      durationMs: performance.now() - pending.startedAt,
    }
    pending.promise.resolve(result)
    return result
  }

  /** Ends the pending call with an error. */
  reject(reason: unknown): void {
    const pending = this.#pending
    this.#pending = null
    this.#attempt?.abort(reason)
    this.#attempt = null
    pending?.promise.reject(reason)
  }

  /** The mean of one member alone: what its own vector is after weighting and dividing. Returns its name. */
  async #alone({ vector, weight }: Pending, facts: RoundFacts, mean: Float32Array): Promise<Uint8Array> {
    const factor = Math.fround(weight)
    for (let i = 0; i < vector.length; i++) {
      mean[i] = weight === 0 ? 0 : Math.fround(vector[i] * factor) / factor
    }
    const key = hashFacts(facts)
    const bytes = new Uint8Array(mean.buffer, mean.byteOffset, mean.byteLength)
    return nameResult(key, key, [await fingerprint(key, 0, bytes)])
  }

  /** Runs the exchange with the neighbours into `into`; returns the result's name. */
  async #exchange(
    pending: Pending,
    links: ViewLinks,
    about: RoundFacts,
    position: number,
    into: {
      readonly memory: RoundMemory
      readonly mean: Float32Array
      readonly residual: Uint16Array | null
    },
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const { identity, integrity, limits, wire } = this.#o
    const { vector, weight, round } = pending
    const [from, to] = await Promise.all([
      within(links.from(), limits.linkMs, signal, links.predecessor),
      within(links.to(), limits.linkMs, signal, links.successor),
    ])
    const facts = hashFacts(about)
    const { members } = about.view
    const isSigned = integrity === 'signed'
    const fingerprints = isSigned ? null : new Fingerprints(facts, members.length)
    const witness = isSigned
      ? new Witness({ identity, to, view: about.view, position, round, wire, facts, result: into.mean })
      : null
    const before = { sent: from.bytesSent + to.bytesSent, received: from.bytesReceived + to.bytesReceived }
    try {
      await exchange({
        from,
        to,
        vector,
        result: into.mean,
        weight,
        totalWeight: about.totalWeight,
        round,
        position,
        count: members.length,
        chunkBytes: limits.chunkBytes,
        wire,
        memory: into.memory,
        residual: this.#residual?.length === vector.length ? this.#residual : null,
        newResidual: into.residual,
        fingerprints,
        witness,
        stallMs: limits.stallMs,
        signal,
      })
      const bytesPerMs = from.takePace()
      if (bytesPerMs !== null) this.#o.handlers.onPace(links.predecessor, bytesPerMs)
    } finally {
      const sent = from.bytesSent + to.bytesSent - before.sent
      const received = from.bytesReceived + to.bytesReceived - before.received
      pending.bytesSent += sent
      pending.bytesReceived += received
      this.bytesSent += sent
      this.bytesReceived += received
    }
    const { key, tags } = witness?.testimony ?? { key: facts, tags: fingerprints?.finish() ?? [] }
    return nameResult(facts, key, tags)
  }
}

/** The sum of weights in ring order in double precision: the same number on every member. */
function totalWeight(weights: readonly number[]): number {
  let total = 0
  for (const weight of weights) total += weight
  return total
}

/** Bounds the wait for a link; the peer that did not come is named. */
function within<T>(promise: Promise<T>, ms: number, signal: AbortSignal, peer: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new RingError('TIMEOUT', `no link with the peer within ${ms} ms`, { peer }))
    }, ms)
    const onAbort = (): void => reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
    })
  })
}
