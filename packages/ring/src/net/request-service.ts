/** Requests and answers between peers of a job, for protocols that the ring's owner defines: bounded, sealed, timed. */
import { createHash } from 'node:crypto'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import type { Identity } from '@gym-node/wire'
import type { RingLimits } from '../defaults.ts'
import { RingError, toRingError } from '../errors.ts'
import { answerLink, initiateLink, type HandshakeOptions, type Preface } from '../link/handshake.ts'
import { FRAME_KIND, type SealedLink } from '../link/sealed-link.ts'
import type { RequestHandler, RequestLimits, RequestOptions } from '../types.ts'
import { StreamCarrier } from './stream-carrier.ts'

/** Characters of a handler's message that are told to the peer. */
const MAX_REASON = 500

/** What the service works with. */
export interface RequestServiceOptions {
  readonly node: Libp2p
  readonly identity: Identity
  readonly job: string
  readonly limits: RingLimits
  readonly isAllowed: (peer: string) => boolean
  /** makes sure that there is a connection; throws when the peer cannot be reached */
  readonly open: (peer: string, protocol: string, signal: AbortSignal) => Promise<Stream>
  readonly onRejected: (error: RingError) => void
}

/** Answers and asks. */
export class RequestService {
  readonly #o: RequestServiceOptions

  constructor(options: RequestServiceOptions) {
    this.#o = options
  }

  /** Answers `protocol` from now on; the returned function ends that. */
  async handle(
    protocol: string,
    handler: RequestHandler,
    limits: RequestLimits,
  ): Promise<() => Promise<void>> {
    let running = 0
    const onStream = (stream: Stream, connection: Connection): void => {
      const peer = connection.remotePeer.toString()
      const refusal = this.#refusal(peer, running, limits)
      if (refusal !== null) {
        stream.abort(refusal)
        this.#o.onRejected(refusal)
        return
      }
      running += 1
      this.#answer(stream, peer, protocol, handler, limits)
        .catch((thrown: unknown) => this.#o.onRejected(toRingError(thrown, 'PEER_LOST', 'request', peer)))
        .finally(() => {
          running -= 1
        })
    }
    await this.#o.node.handle(protocol, onStream, {
      runOnLimitedConnection: true,
      // A few more than run at once, so that one too many is refused by name.
      maxInboundStreams: 2 * limits.maxConcurrent + 2,
    })
    return () => this.#o.node.unhandle(protocol)
  }

  /** Asks a peer. Throws RingError TIMEOUT, PEER_LOST, BAD_FRAME or REFUSED, or the signal's reason. */
  async request(peer: string, protocol: string, request: Uint8Array, o: RequestOptions): Promise<Uint8Array> {
    const late = AbortSignal.timeout(o.timeoutMs)
    const signal = o.signal === undefined ? late : AbortSignal.any([late, o.signal])
    try {
      const stream = await this.#o.open(peer, protocol, signal)
      const link = await initiateLink(this.#handshake(stream, peer, protocol, o.timeoutMs), this.#preface())
      try {
        const answer = collect(link, FRAME_KIND.answerChunk, FRAME_KIND.answerEnd, o.maxResponseBytes, signal)
        await sendAll(
          link,
          [request],
          FRAME_KIND.requestChunk,
          FRAME_KIND.requestEnd,
          this.#o.limits.chunkBytes,
        )
        return await answer
      } finally {
        await link.close()
      }
    } catch (thrown) {
      o.signal?.throwIfAborted()
      if (late.aborted) {
        throw new RingError('TIMEOUT', `no answer to ${protocol} within ${o.timeoutMs} ms`, {
          cause: thrown,
          peer,
        })
      }
      throw toRingError(thrown, 'PEER_LOST', `request ${protocol} failed`, peer)
    }
  }

  async #answer(
    stream: Stream,
    peer: string,
    protocol: string,
    handler: RequestHandler,
    limits: RequestLimits,
  ): Promise<void> {
    const signal = AbortSignal.timeout(limits.timeoutMs)
    const admit = async (preface: Preface): Promise<void> => {
      if (preface.purpose === 'request' && preface.ringId === this.#preface().ringId) return
      throw new RingError('BAD_HANDSHAKE', 'the request is for another job', { peer })
    }
    const { link } = await answerLink(this.#handshake(stream, peer, protocol, limits.timeoutMs), admit)
    const end = new Promise<void>((resolve) => link.onEnd(() => resolve()))
    const onLate = (): void =>
      link.abort(new RingError('TIMEOUT', `answer took over ${limits.timeoutMs} ms`, { peer }))
    signal.addEventListener('abort', onLate, { once: true })
    try {
      const request = await collect(
        link,
        FRAME_KIND.requestChunk,
        FRAME_KIND.requestEnd,
        limits.maxRequestBytes,
        signal,
      )
      const answer = await handler(request, { from: peer, signal })
      const parts = answer instanceof Uint8Array ? [answer] : answer
      await sendAll(link, parts, FRAME_KIND.answerChunk, FRAME_KIND.answerEnd, this.#o.limits.chunkBytes)
    } catch (thrown) {
      if (thrown instanceof RingError && thrown.code !== 'PEER_LOST') this.#o.onRejected(thrown)
      const reason = thrown instanceof Error ? thrown.message : String(thrown)
      const text = new TextEncoder().encode(reason.slice(0, MAX_REASON))
      link.send({ kind: FRAME_KIND.answerRefused, move: 0, round: 0, chunk: 0 }, text)
    } finally {
      // The asking end closes once it has everything; the timeout ends it otherwise.
      await end
      signal.removeEventListener('abort', onLate)
    }
  }

  #refusal(peer: string, running: number, limits: RequestLimits): RingError | null {
    if (!this.#o.isAllowed(peer)) return new RingError('PEER_DENIED', 'peer is not allowed here', { peer })
    if (running < limits.maxConcurrent) return null
    return new RingError('PEER_FLOOD', `${running} requests are running, limit ${limits.maxConcurrent}`, {
      peer,
    })
  }

  #preface(): Preface {
    const ringId = createHash('sha3-256').update(`request ${this.#o.job}`).digest('hex')
    return { purpose: 'request', ringId, epoch: 1 }
  }

  #handshake(stream: Stream, peer: string, protocol: string, timeoutMs: number): HandshakeOptions {
    const { identity, limits } = this.#o
    return { carrier: new StreamCarrier(stream), identity, peer, protocol, limits, timeoutMs }
  }
}

/** Sends all parts in frames of at most `chunkBytes`, obeying back-pressure, then the end. */
async function sendAll(
  link: SealedLink,
  parts: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  kind: number,
  endKind: number,
  chunkBytes: number,
): Promise<void> {
  for await (const part of parts) {
    for (let at = 0; at < part.byteLength; at += chunkBytes) {
      const more = link.send({ kind, move: 0, round: 0, chunk: 0 }, part.subarray(at, at + chunkBytes))
      if (!more) await link.drained()
    }
  }
  link.send({ kind: endKind, move: 0, round: 0, chunk: 0 }, new Uint8Array(0))
}

/** Gathers frames up to the end; memory grows as bytes come, never by a claim. */
function collect(
  link: SealedLink,
  kind: number,
  endKind: number,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = []
    let length = 0
    const fail = (reason: unknown): void =>
      reject(reason instanceof Error ? reason : new Error(String(reason)))
    signal.addEventListener('abort', () => fail(signal.reason), { once: true })
    link.onEnd(fail)
    link.onFrame((header, payload) => {
      if (header.kind === FRAME_KIND.answerRefused && endKind === FRAME_KIND.answerEnd) {
        fail(new RingError('REFUSED', new TextDecoder().decode(payload), { peer: link.peer }))
        return
      }
      if (header.kind === endKind) {
        resolve(Buffer.concat(parts))
        return
      }
      length += payload.byteLength
      if (header.kind !== kind || length > maxBytes) {
        const seen = header.kind === kind ? `over ${maxBytes} bytes` : `frame kind ${header.kind}`
        const error = new RingError('BAD_FRAME', `${seen} in a message, limit ${maxBytes} bytes`, {
          peer: link.peer,
        })
        fail(error)
        throw error
      }
      parts.push(payload)
    })
  })
}
