/**
 * Fetches the ring's state from its holders, one after another. What came from one that broke off, or was slow while
 * another may be quicker, is kept and the next one continues. Bytes that do not match what was agreed are never handed out: whoever served them alone is named and
 * asked last from then on; what several made up together is fetched again from one alone, which tells who lies.
 */
import type { FrameHeader } from '@gym-node/wire'
import {
  MIN_STATE_BYTES_PER_STALL,
  QUICK_STATE_BYTES_PER_STALL,
  QUICK_STATE_SHARE_PER_STALL,
  type RingLimits,
} from '../defaults.ts'
import { RingError, toRingError } from '../errors.ts'
import { FRAME_KIND, type SealedLink } from '../link/sealed-link.ts'
import { PartialState, type WantedState } from './partial.ts'
import { encodeStateRequest } from './request.ts'

/** Opens a state link to a peer. */
export type StateDialer = (peer: string, signal: AbortSignal) => Promise<SealedLink>

/** Keeps what was fetched between attempts, and remembers peers that served wrong bytes. */
export class StateFetcher {
  readonly #dial: StateDialer
  readonly #limits: RingLimits
  readonly #onRefused: (error: RingError) => void
  readonly #bad = new Set<string>()
  #partial: PartialState | null = null

  /** `onRefused` hears of every peer that served what it should not have, also when another source then helped. */
  constructor(dial: StateDialer, limits: RingLimits, onRefused: (error: RingError) => void) {
    this.#dial = dial
    this.#limits = limits
    this.#onRefused = onRefused
  }

  /** The verified bytes from one of `sources`. Throws the last RingError when none could give them. */
  async fetch(wanted: WantedState, sources: readonly string[], signal: AbortSignal): Promise<Uint8Array> {
    if (this.#partial?.wanted.hash !== wanted.hash) this.#partial = null
    let last = new RingError('OUT_OF_SYNC', `no member offers the state of round ${wanted.round}`)
    const order = this.#inOrder(sources)
    const slow: { readonly peer: string; readonly brought: number }[] = []
    for (const peer of order) {
      const before = this.#partial?.length ?? 0
      const got = await this.#try(peer, wanted, signal, order.length === 1)
      if (got instanceof Uint8Array) return got
      last = got
      const brought = (this.#partial?.length ?? 0) - before
      if (order.length > 1 && last.code === 'TIMEOUT' && brought > 0) slow.push({ peer, brought })
    }
    // Nobody was quick: whoever brought most has all the time that it makes use of.
    for (const { peer } of slow.sort((a, b) => b.brought - a.brought)) {
      const got = await this.#try(peer, wanted, signal, true)
      if (got instanceof Uint8Array) return got
      last = got
    }
    throw last
  }

  /** The bytes, or why not. What is wrong and came from several is fetched once more from this one alone. */
  async #try(
    peer: string,
    wanted: WantedState,
    signal: AbortSignal,
    isPatient: boolean,
  ): Promise<Uint8Array | RingError> {
    let helpers: string[] = []
    for (let isAgain = false; ; isAgain = true) {
      signal.throwIfAborted()
      const partial = (this.#partial ??= new PartialState(wanted, this.#limits.stateBytes))
      const others = [...partial.sources].filter((source) => source !== peer)
      let failure: RingError
      try {
        const bytes = await this.#fetchFrom(peer, partial, signal, isPatient)
        if (helpers.length > 0) this.#accuse(helpers, wanted)
        return bytes
      } catch (thrown) {
        signal.throwIfAborted()
        failure = toRingError(thrown, 'PEER_LOST', 'state transfer broke off', peer)
      }
      if (failure.code !== 'BAD_STATE' && failure.code !== 'BAD_FRAME') return failure
      this.#partial = null
      if (others.length > 0 && failure.code === 'BAD_STATE' && !isAgain) {
        helpers = others
        continue
      }
      this.#bad.add(peer)
      this.#onRefused(failure)
      return new RingError('OUT_OF_SYNC', `the state of round ${wanted.round} came wrong`, { cause: failure })
    }
  }

  /** One of these served wrong bytes before somebody else alone served the right ones. */
  #accuse(helpers: readonly string[], { round }: WantedState): void {
    const [only] = helpers
    for (const peer of helpers) this.#bad.add(peer)
    const reason = `wrong bytes or a wrong length of the state of round ${round}`
    this.#onRefused(
      new RingError('BAD_STATE', reason, {
        ...(helpers.length === 1 && only !== undefined ? { peer: only } : {}),
        suspects: helpers,
      }),
    )
  }

  /** Good ones first; a bad one only when there is no other: it may have been a fault that has passed. */
  #inOrder(sources: readonly string[]): string[] {
    const good = sources.filter((peer) => !this.#bad.has(peer))
    return [...good, ...sources.filter((peer) => this.#bad.has(peer))]
  }

  /** `isPatient`: also slowly, as there is nobody else. */
  async #fetchFrom(
    peer: string,
    partial: PartialState,
    signal: AbortSignal,
    isPatient: boolean,
  ): Promise<Uint8Array> {
    const link = await this.#dial(peer, signal)
    const done = Promise.withResolvers<void>()
    const { stallMs } = this.#limits
    const least = (): number =>
      isPatient
        ? MIN_STATE_BYTES_PER_STALL
        : Math.max(QUICK_STATE_BYTES_PER_STALL, QUICK_STATE_SHARE_PER_STALL * partial.total)
    const stall = (): void => {
      const reason = `less than ${least()} bytes of state in ${stallMs} ms`
      link.abort(new RingError('TIMEOUT', reason, { peer }))
    }
    let timer = setTimeout(stall, stallMs)
    let timedFrom = partial.length
    const onAbort = (): void => link.abort(new RingError('STOPPED', 'state transfer cancelled', { peer }))
    signal.addEventListener('abort', onAbort, { once: true })
    link.onEnd((reason) => done.reject(reason))
    link.onFrame((header, payload) => {
      take(header, payload, peer, partial)
      if (partial.isComplete) done.resolve()
      if (partial.length - timedFrom < least()) return
      clearTimeout(timer)
      timer = setTimeout(stall, stallMs)
      timedFrom = partial.length
    })
    const request = encodeStateRequest({ ...partial.wanted, offset: partial.length })
    link.send({ kind: FRAME_KIND.stateRequest, move: 0, round: partial.wanted.round, chunk: 0 }, request)
    try {
      await done.promise
      this.#partial = null
      return named(() => partial.verified(), peer)
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      await link.close()
    }
  }
}

function take(header: FrameHeader, payload: Uint8Array, peer: string, partial: PartialState): void {
  if (header.kind === FRAME_KIND.stateHead && payload.byteLength === 8) {
    const view = new DataView(payload.buffer, payload.byteOffset, 8)
    partial.announce(Number(view.getBigUint64(0, true)), peer)
  } else if (header.kind === FRAME_KIND.stateRefused) {
    throw new RingError('OUT_OF_SYNC', 'the peer no longer has this state', { peer })
  } else if (header.kind === FRAME_KIND.stateChunk) {
    partial.append(payload, peer)
  } else {
    throw new RingError('BAD_FRAME', `frame kind ${header.kind} inside a state transfer`, { peer })
  }
}

/** The error says who served the last byte. */
function named<T>(run: () => T, peer: string): T {
  try {
    return run()
  } catch (thrown) {
    if (thrown instanceof RingError) throw new RingError(thrown.code, thrown.message, { peer })
    throw thrown
  }
}
