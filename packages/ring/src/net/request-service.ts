/** Requests and answers between peers of a job, for protocols that the ring's owner defines: bounded, sealed, timed. */
import { createHash } from 'node:crypto'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import type { Identity } from '@gym-node/wire'
import type { RingLimits } from '../defaults.ts'
import { RingError, toRingError } from '../errors.ts'
import { answerLink, initiateLink, type HandshakeOptions, type Preface } from '../link/handshake.ts'
import { FRAME_KIND, type SealedLink } from '../link/sealed-link.ts'
import type { RequestHandler, RequestLimits, RequestOptions } from '../types.ts'
import {
  REQUEST_GRACE_MS,
  REQUEST_LEAST_PACE,
  REQUEST_LOOK_MS,
  REQUESTS_WAITING_PER_SLOT,
} from './defaults.ts'
import { networkOf, RequestSlots } from './request-slots.ts'
import type { RequestTicket, SlotDecision } from './request-slots.ts'
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
    const slots = new RequestSlots({
      running: limits.maxConcurrent,
      waiting: REQUESTS_WAITING_PER_SLOT * limits.maxConcurrent,
      graceMs: REQUEST_GRACE_MS,
      bytesPerSecond: REQUEST_LEAST_PACE,
    })
    const carriers = new Map<RequestTicket, StreamCarrier>()
    const timer = setInterval(
      () => slots.isContended && carryOut(slots.look(performance.now())),
      REQUEST_LOOK_MS,
    )
    timer.unref()
    const carryOut = (decisions: readonly SlotDecision[]): void => {
      for (const { ticket, ...decision } of decisions) {
        const carrier = carriers.get(ticket)
        if (carrier === undefined) continue
        if (decision.kind === 'end') {
          const refusal = new RingError('PEER_FLOOD', decision.reason, { peer: ticket.peer })
          carrier.abort(refusal)
          this.#o.onRejected(refusal)
          continue
        }
        this.#answer(carrier, ticket, protocol, handler, limits)
          .catch((thrown: unknown) =>
            this.#o.onRejected(toRingError(thrown, 'PEER_LOST', 'request', ticket.peer)),
          )
          .finally(() => ended(ticket))
      }
    }
    const ended = (ticket: RequestTicket): void => {
      carriers.delete(ticket)
      carryOut(slots.done(ticket, performance.now()))
    }
    const onStream = (stream: Stream, connection: Connection): void => {
      const peer = connection.remotePeer.toString()
      if (!this.#o.isAllowed(peer)) {
        const refusal = new RingError('PEER_DENIED', 'peer is not allowed here', { peer })
        stream.abort(refusal)
        this.#o.onRejected(refusal)
        return
      }
      const network = networkOf(connection.remoteAddr.toString())
      const ticket: RequestTicket = { peer, network, startedAt: null, bytes: 0 }
      const carrier = new StreamCarrier(stream)
      carriers.set(ticket, carrier)
      // One that gives up while it waits; a running one ends in `#answer`.
      carrier.onEnd(() => {
        if (ticket.startedAt === null) ended(ticket)
      })
      carryOut(slots.ask(ticket, performance.now()))
    }
    await this.#o.node.handle(protocol, onStream, {
      runOnLimitedConnection: true,
      // A few more than run at once wait, and are refused by name; this is what one peer may open.
      maxInboundStreams: 2 * limits.maxConcurrent + 2,
    })
    return async () => {
      clearInterval(timer)
      await this.#o.node.unhandle(protocol)
    }
  }

  /** Asks a peer. Throws RingError TIMEOUT, PEER_LOST, BAD_FRAME or REFUSED, or the signal's reason. */
  async request(peer: string, protocol: string, request: Uint8Array, o: RequestOptions): Promise<Uint8Array> {
    const late = AbortSignal.timeout(o.timeoutMs)
    const signal = o.signal === undefined ? late : AbortSignal.any([late, o.signal])
    try {
      const stream = await this.#o.open(peer, protocol, signal)
      const link = await initiateLink(
        this.#handshake(new StreamCarrier(stream), peer, protocol, o.timeoutMs),
        this.#preface(),
      )
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
    carrier: StreamCarrier,
    ticket: RequestTicket,
    protocol: string,
    handler: RequestHandler,
    limits: RequestLimits,
  ): Promise<void> {
    const { peer } = ticket
    const moved = (bytes: number): void => {
      ticket.bytes += bytes
    }
    const late = AbortSignal.timeout(limits.timeoutMs)
    const gone = new AbortController()
    carrier.onEnd((reason) => gone.abort(reason))
    // What the handler does for a peer that is gone, or had to give way, ends with it.
    const signal = AbortSignal.any([late, gone.signal])
    const admit = async (preface: Preface): Promise<void> => {
      if (preface.purpose === 'request' && preface.ringId === this.#preface().ringId) return
      throw new RingError('BAD_HANDSHAKE', 'the request is for another job', { peer })
    }
    const { link } = await answerLink(this.#handshake(carrier, peer, protocol, limits.timeoutMs), admit)
    const end = new Promise<void>((resolve) => link.onEnd(() => resolve()))
    const onLate = (): void =>
      link.abort(new RingError('TIMEOUT', `answer took over ${limits.timeoutMs} ms`, { peer }))
    late.addEventListener('abort', onLate, { once: true })
    try {
      const request = await collect(
        link,
        FRAME_KIND.requestChunk,
        FRAME_KIND.requestEnd,
        limits.maxRequestBytes,
        signal,
        moved,
      )
      const answer = await handler(request, { from: peer, signal })
      const parts = answer instanceof Uint8Array ? [answer] : answer
      const { answerChunk, answerEnd } = FRAME_KIND
      await sendAll(link, parts, answerChunk, answerEnd, this.#o.limits.chunkBytes, moved)
    } catch (thrown) {
      if (thrown instanceof RingError && thrown.code !== 'PEER_LOST') this.#o.onRejected(thrown)
      const reason = thrown instanceof Error ? thrown.message : String(thrown)
      const text = new TextEncoder().encode(reason.slice(0, MAX_REASON))
      link.send({ kind: FRAME_KIND.answerRefused, move: 0, round: 0, chunk: 0 }, text)
    } finally {
      // The asking end closes once it has everything; the timeout ends it otherwise.
      await end
      late.removeEventListener('abort', onLate)
    }
  }

  #preface(): Preface {
    const ringId = createHash('sha3-256').update(`request ${this.#o.job}`).digest('hex')
    return { purpose: 'request', ringId, epoch: 1 }
  }

  #handshake(carrier: StreamCarrier, peer: string, protocol: string, timeoutMs: number): HandshakeOptions {
    const { identity, limits } = this.#o
    return { carrier, identity, peer, protocol, limits, timeoutMs }
  }
}

/** Sends all parts in frames of at most `chunkBytes`, obeying back-pressure, then the end. */
async function sendAll(
  link: SealedLink,
  parts: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  kind: number,
  endKind: number,
  chunkBytes: number,
  moved: (bytes: number) => void = () => undefined,
): Promise<void> {
  for await (const part of parts) {
    for (let at = 0; at < part.byteLength; at += chunkBytes) {
      const chunk = part.subarray(at, at + chunkBytes)
      if (!link.send({ kind, move: 0, round: 0, chunk: 0 }, chunk)) await link.drained()
      moved(chunk.byteLength)
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
  moved: (bytes: number) => void = () => undefined,
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
      moved(payload.byteLength)
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
