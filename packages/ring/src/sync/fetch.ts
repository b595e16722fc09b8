/**
 * Fetches the ring's state from its holders, one after another. What came from one that broke off is kept and the next
 * one continues. Bytes that do not match what was agreed are never handed out: whoever served them alone is named and
 * asked last from then on; what several made up together is fetched again from one alone, which tells who lies.
 */
import type { FrameHeader } from '@gym-node/wire'
import { MIN_STATE_BYTES_PER_STALL, type RingLimits } from '../defaults.ts'
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
    for (const peer of this.#inOrder(sources)) {
      for (let isAgain = false; ; isAgain = true) {
        signal.throwIfAborted()
        const partial = (this.#partial ??= new PartialState(wanted, this.#limits.stateBytes))
        const hadHelp = [...partial.sources].some((source) => source !== peer)
        try {
          return await this.#fetchFrom(peer, partial, signal)
        } catch (thrown) {
          signal.throwIfAborted()
          last = toRingError(thrown, 'PEER_LOST', 'state transfer broke off', peer)
        }
        if (last.code !== 'BAD_STATE' && last.code !== 'BAD_FRAME') break
        this.#partial = null
        if (hadHelp && last.code === 'BAD_STATE' && !isAgain) continue
        this.#bad.add(peer)
        this.#onRefused(last)
        last = new RingError('OUT_OF_SYNC', `the state of round ${wanted.round} came wrong`, { cause: last })
        break
      }
    }
    throw last
  }

  /** Good ones first; a bad one only when there is no other: it may have been a fault that has passed. */
  #inOrder(sources: readonly string[]): string[] {
    const good = sources.filter((peer) => !this.#bad.has(peer))
    return [...good, ...sources.filter((peer) => this.#bad.has(peer))]
  }

  async #fetchFrom(peer: string, partial: PartialState, signal: AbortSignal): Promise<Uint8Array> {
    const link = await this.#dial(peer, signal)
    const done = Promise.withResolvers<void>()
    const { stallMs } = this.#limits
    const stall = (): void => {
      const reason = `less than ${MIN_STATE_BYTES_PER_STALL} bytes of state in ${stallMs} ms`
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
      if (partial.length - timedFrom < MIN_STATE_BYTES_PER_STALL) return
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
