/** The caller's pending all-reduce: keeps its vector through view changes, runs the data plane, hands out the result. */
import type { RingLimits } from '../defaults.ts'
import { RingError, toRingError } from '../errors.ts'
import type { ViewLinks } from '../link/view-links.ts'
import { totalWeight } from '../reduce.ts'
import type { RoundResult, View, WireType } from '../types.ts'
import type { Mark, Turn } from '../view/messages.ts'
import { aloneMean, exchange, type ExchangeResult } from './exchange.ts'
import { decodeHeld, encodeHeld, nameResult, type HeldResult } from './held-result.ts'

/** What the runner tells the view machine. */
export interface RunnerHandlers {
  onComputed(epoch: number, round: number, hash: string): void
  onFailed(epoch: number, round: number, error: RingError): void
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
  readonly #limits: RingLimits
  readonly #handlers: RunnerHandlers
  #pending: Pending | null = null
  #attempt: AbortController | null = null
  #held: HeldResult | null = null
  readonly #wire: WireType
  /** rounding errors of the last committed round, and of the one held */
  #residual: Float32Array | null = null
  #heldResidual: Float32Array | null = null
  bytesSent = 0
  bytesReceived = 0

  constructor(limits: RingLimits, wire: WireType, handlers: RunnerHandlers) {
    this.#limits = limits
    this.#wire = wire
    this.#handlers = handlers
  }

  /** The computed result, as bytes for the store. */
  get heldBytes(): Uint8Array | null {
    return this.#held === null ? null : encodeHeld(this.#held)
  }

  /** Takes back a result that was stored before a restart; returns its name. Throws RingError BAD_STORE. */
  restore(bytes: Uint8Array | null): Mark | null {
    if (bytes === null) return null
    this.#held = decodeHeld(bytes)
    return { round: this.#held.round, hash: Buffer.from(this.#held.hash).toString('hex') }
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
    const total = totalWeight(turns.map((turn) => turn.weight))
    try {
      const { mean, residual } =
        links === null
          ? { mean: aloneMean(pending.vector, pending.weight), residual: null }
          : await this.#exchange(pending, links, total, position, attempt.signal)
      if (attempt.signal.aborted) return
      const contributions = turns.map((turn, i) => ({
        peerId: view.members[i] ?? '',
        weight: turn.weight,
        commitment: turn.commitment === null ? null : new Uint8Array(Buffer.from(turn.commitment, 'hex')),
      }))
      const result = { round: pending.round, mean, totalWeight: total, view, contributions }
      const hash = nameResult(result)
      this.#held = { ...result, hash }
      this.#heldResidual = residual
      this.#handlers.onComputed(view.epoch, pending.round, Buffer.from(hash).toString('hex'))
    } catch (thrown) {
      if (attempt.signal.aborted) return
      this.#handlers.onFailed(view.epoch, pending.round, toRingError(thrown, 'PEER_LOST', 'round failed'))
    }
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
    const { mean, totalWeight: total, view, contributions, hash: own } = this.#held
    if (Buffer.from(own).toString('hex') !== hash) return null
    this.#pending = null
    this.#held = null
    this.#residual = this.#heldResidual
    this.#heldResidual = null
    const result: RoundResult = {
      round,
      view,
      mean,
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

  async #exchange(
    pending: Pending,
    links: ViewLinks,
    total: number,
    position: number,
    signal: AbortSignal,
  ): Promise<ExchangeResult> {
    const [from, to] = await Promise.all([
      within(links.from(), this.#limits.linkMs, signal, links.predecessor),
      within(links.to(), this.#limits.linkMs, signal, links.successor),
    ])
    const before = { sent: from.bytesSent + to.bytesSent, received: from.bytesReceived + to.bytesReceived }
    try {
      return await exchange({
        from,
        to,
        vector: pending.vector,
        weight: pending.weight,
        totalWeight: total,
        round: pending.round,
        position,
        count: links.view.members.length,
        chunkBytes: this.#limits.chunkBytes,
        wire: this.#wire,
        residual: this.#residual?.length === pending.vector.length ? this.#residual : null,
        stallMs: this.#limits.stallMs,
        signal,
      })
    } finally {
      const sent = from.bytesSent + to.bytesSent - before.sent
      const received = from.bytesReceived + to.bytesReceived - before.received
      pending.bytesSent += sent
      pending.bytesReceived += received
      this.bytesSent += sent
      this.bytesReceived += received
    }
  }
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
