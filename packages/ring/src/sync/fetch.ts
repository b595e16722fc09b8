/**
 * Fetches the ring's state from its holders, one after another. What came from one that broke off is kept and the next
 * one continues; what does not match the hash is dropped, and the only one that served it is named and avoided.
 */
import type { FrameHeader } from '@gym-node/wire'
import { sha3_256 } from '@gym-node/wire'
import type { RingLimits } from '../defaults.ts'
import { RingError, toRingError } from '../errors.ts'
import { FRAME_KIND, type SealedLink } from '../link/sealed-link.ts'
import { encodeStateRequest } from './request.ts'

/** What is wanted: the state after `round` with this SHA3-256 in hex. */
export interface WantedState {
  readonly round: number
  readonly hash: string
}

/** Opens a state link to a peer. */
export type StateDialer = (peer: string, signal: AbortSignal) => Promise<SealedLink>

/** Bytes received so far, and from whom. Grows as they come: a claimed length alone reserves no memory. */
interface Partial {
  readonly wanted: WantedState
  readonly parts: Uint8Array[]
  length: number
  total: number | null
  readonly sources: Set<string>
}

/** Keeps what was fetched between attempts, and remembers peers that served wrong bytes. */
export class StateFetcher {
  readonly #dial: StateDialer
  readonly #limits: RingLimits
  readonly #stallMs: number
  readonly #bad = new Set<string>()
  #partial: Partial | null = null

  constructor(dial: StateDialer, limits: RingLimits, stallMs: number) {
    this.#dial = dial
    this.#limits = limits
    this.#stallMs = stallMs
  }

  /**
   * The verified bytes from one of `sources`. Throws the last RingError when none could give them; BAD_STATE names a
   * peer that served something else.
   */
  async fetch(wanted: WantedState, sources: readonly string[], signal: AbortSignal): Promise<Uint8Array> {
    if (this.#partial?.wanted.hash !== wanted.hash) this.#partial = null
    let last = new RingError('OUT_OF_SYNC', `no member offers the state of round ${wanted.round}`)
    for (const peer of this.#inOrder(sources)) {
      signal.throwIfAborted()
      this.#partial ??= { wanted, parts: [], length: 0, total: null, sources: new Set() }
      try {
        await this.#fetchFrom(peer, this.#partial, signal)
        return this.#verified(this.#partial)
      } catch (thrown) {
        signal.throwIfAborted()
        last = toRingError(thrown, 'PEER_LOST', 'state transfer broke off', peer)
      }
    }
    throw last
  }

  /** Good ones first; a bad one only when there is no other: it may have been the link's fault. */
  #inOrder(sources: readonly string[]): string[] {
    return [
      ...sources.filter((peer) => !this.#bad.has(peer)),
      ...sources.filter((peer) => this.#bad.has(peer)),
    ]
  }

  #verified(partial: Partial): Uint8Array {
    const bytes = new Uint8Array(partial.length)
    let at = 0
    for (const part of partial.parts) {
      bytes.set(part, at)
      at += part.byteLength
    }
    this.#partial = null
    const seen = Buffer.from(sha3_256(bytes)).toString('hex')
    if (seen === partial.wanted.hash) return bytes
    const blamed = partial.sources.size === 1 ? [...partial.sources][0] : undefined
    if (blamed !== undefined) this.#bad.add(blamed)
    throw new RingError(
      'BAD_STATE',
      `state of round ${partial.wanted.round} hashes to ${seen}, the ring agreed on ${partial.wanted.hash}`,
      blamed === undefined ? {} : { peer: blamed },
    )
  }

  async #fetchFrom(peer: string, partial: Partial, signal: AbortSignal): Promise<void> {
    const link = await this.#dial(peer, signal)
    const done = Promise.withResolvers<void>()
    const stall = (): void => {
      const reason = `no state bytes for ${this.#stallMs} ms`
      link.abort(new RingError('TIMEOUT', reason, { peer }))
    }
    let timer = setTimeout(stall, this.#stallMs)
    const onAbort = (): void => link.abort(new RingError('STOPPED', 'state transfer cancelled', { peer }))
    signal.addEventListener('abort', onAbort, { once: true })
    link.onEnd((reason) => done.reject(reason))
    link.onFrame((header, payload) => {
      clearTimeout(timer)
      timer = setTimeout(stall, this.#stallMs)
      this.#take(header, payload, peer, partial)
      if (partial.total === partial.length) done.resolve()
    })
    const request = encodeStateRequest({ ...partial.wanted, offset: partial.length })
    link.send({ kind: FRAME_KIND.stateRequest, move: 0, round: partial.wanted.round, chunk: 0 }, request)
    try {
      await done.promise
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      await link.close()
    }
  }

  #take(header: FrameHeader, payload: Uint8Array, peer: string, partial: Partial): void {
    if (header.kind === FRAME_KIND.stateHead && payload.byteLength === 8) {
      const total = Number(new DataView(payload.buffer, payload.byteOffset, 8).getBigUint64(0, true))
      const limit = this.#limits.stateBytes
      if (total > limit) throw new RingError('BAD_STATE', `state is ${total} bytes, limit ${limit}`, { peer })
      if (partial.total !== null && partial.total !== total) {
        throw new RingError('BAD_STATE', `state is ${total} bytes here and ${partial.total} elsewhere`, {
          peer,
        })
      }
      partial.total = total
      return
    }
    if (header.kind === FRAME_KIND.stateRefused) {
      throw new RingError('OUT_OF_SYNC', 'the peer no longer has this state', { peer })
    }
    if (header.kind !== FRAME_KIND.stateChunk || partial.total === null) {
      throw new RingError('BAD_FRAME', `frame kind ${header.kind} inside a state transfer`, { peer })
    }
    if (partial.length + payload.byteLength > partial.total) {
      throw new RingError('BAD_STATE', `more than the announced ${partial.total} bytes came`, { peer })
    }
    partial.parts.push(payload)
    partial.length += payload.byteLength
    partial.sources.add(peer)
  }
}
