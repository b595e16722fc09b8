/** Sealed frames over a carrier, both ways. A frame that does not open ends the link; nothing of it is passed on. */
import type { FrameHeader, SealedKeys } from '@gym-node/wire'
import { FRAME_HEADER_BYTES, FRAME_TAG_BYTES, FrameOpener, FrameSealer, WireError } from '@gym-node/wire'
import type { RingLimits } from '../defaults.ts'
import { RingError } from '../errors.ts'
import type { Carrier } from '../net/carrier.ts'

/** What frames are for. */
export const FRAME_KIND = {
  /** the receiver of a round is ready: its predecessor may send */
  go: 1,
  reduce: 2,
  gather: 3,
  directOffer: 8,
  directReady: 9,
  directNone: 10,
  stateRequest: 16,
  stateHead: 17,
  stateChunk: 18,
  stateRefused: 19,
  requestChunk: 32,
  requestEnd: 33,
  answerChunk: 34,
  answerEnd: 35,
  answerRefused: 36,
} as const

/** Requests and offers must fit even where chunks are tiny. */
const MIN_PAYLOAD_LIMIT = 4096

/** Small frames kept while nobody listens: a neighbour may be ready for the next round first. */
const MAX_KEPT_FRAMES = 2
const MAX_KEPT_BYTES = 1024

/** Takes one opened frame. It throws RingError to refuse it, which ends the link. */
export type FrameHandler = (header: FrameHeader, payload: Uint8Array) => void

/** An authenticated, post-quantum link to one peer. */
export class SealedLink {
  readonly peer: string
  readonly carrier: Carrier
  bytesSent = 0
  bytesReceived = 0
  readonly #sealer: FrameSealer
  readonly #opener: FrameOpener
  readonly #header = new Uint8Array(FRAME_HEADER_BYTES)
  #headerFill = 0
  #current: FrameHeader | null = null
  #body = new Uint8Array(0)
  #bodyFill = 0
  #handler: FrameHandler | null = null
  #corked: Uint8Array | null
  #kept: { header: FrameHeader; payload: Uint8Array }[] = []

  constructor(carrier: Carrier, keys: SealedKeys, peer: string, limits: RingLimits, early: Uint8Array) {
    this.carrier = carrier
    this.peer = peer
    this.#sealer = new FrameSealer(keys.send)
    this.#opener = new FrameOpener(keys.receive, {
      maxPayloadBytes: Math.max(limits.chunkBytes, MIN_PAYLOAD_LIMIT),
    })
    this.#corked = early
    carrier.receive((bytes) => this.#cork(bytes, 2 * Math.max(limits.chunkBytes, MIN_PAYLOAD_LIMIT)))
  }

  /** Seals and queues a frame. False: await `drained` before the next. */
  send(header: Omit<FrameHeader, 'length'>, payload: Uint8Array): boolean {
    const buffers = this.#sealer.seal(header, payload)
    for (const buffer of buffers) this.bytesSent += buffer.byteLength
    return this.carrier.send(buffers)
  }

  drained(): Promise<void> {
    return this.carrier.drained()
  }

  /** Bytes that come right behind the handshake wait, sealed, for the first `onFrame`. */
  #cork(bytes: Uint8Array, limit: number): void {
    const held = this.#corked ?? new Uint8Array(0)
    if (held.byteLength + bytes.byteLength > limit) {
      this.abort(
        new RingError('PEER_FLOOD', `over ${limit} bytes came before the link was used`, { peer: this.peer }),
      )
      return
    }
    const whole = new Uint8Array(held.byteLength + bytes.byteLength)
    whole.set(held)
    whole.set(bytes, held.byteLength)
    this.#corked = whole
  }

  /** Sets who gets the frames from now on; those kept since `park` are handed over first. */
  onFrame(handler: FrameHandler): void {
    this.#handler = handler
    const kept = this.#kept
    this.#kept = []
    this.#guarded(() => {
      for (const { header, payload } of kept) handler(header, payload)
    })
    const corked = this.#corked
    if (corked === null) return
    this.#corked = null
    this.carrier.receive((bytes) => this.#take(bytes))
    if (corked.byteLength > 0) this.#take(corked)
  }

  /** Nobody takes frames for now. A few small ones are kept. */
  park(): void {
    this.#handler = null
  }

  onEnd(handler: (reason: RingError) => void): void {
    this.carrier.onEnd(handler)
  }

  close(): Promise<void> {
    return this.carrier.close()
  }

  abort(reason: RingError): void {
    this.carrier.abort(reason)
  }

  #take(bytes: Uint8Array): void {
    this.bytesReceived += bytes.byteLength
    this.#guarded(() => {
      let at = 0
      while (at < bytes.byteLength) at = this.#step(bytes, at)
    })
  }

  /** Whatever is wrong with the peer's bytes ends the link; anything else is a bug here and is thrown on. */
  #guarded(run: () => void): void {
    try {
      run()
    } catch (thrown) {
      this.abort(refusal(thrown, this.peer))
    }
  }

  #keep(header: FrameHeader, payload: Uint8Array): void {
    if (payload.byteLength > MAX_KEPT_BYTES || this.#kept.length >= MAX_KEPT_FRAMES) {
      throw new RingError(
        'BAD_FRAME',
        `frame kind ${header.kind} of ${header.length} bytes came when none was due`,
      )
    }
    this.#kept.push({ header, payload })
  }

  /** Consumes part of `bytes` from `at` on; returns how far it came. */
  #step(bytes: Uint8Array, at: number): number {
    if (this.#current === null) {
      const take = Math.min(FRAME_HEADER_BYTES - this.#headerFill, bytes.byteLength - at)
      this.#header.set(bytes.subarray(at, at + take), this.#headerFill)
      this.#headerFill += take
      if (this.#headerFill === FRAME_HEADER_BYTES) this.#current = this.#opener.readHeader(this.#header)
      return at + take
    }
    const total = this.#current.length + FRAME_TAG_BYTES
    const available = bytes.byteLength - at
    if (this.#bodyFill === 0 && available >= total) {
      this.#finish(this.#current, bytes.subarray(at, at + total))
      return at + total
    }
    // The body buffer is kept between frames: it is as large as the largest frame seen, under the limit.
    if (this.#body.byteLength < total) this.#body = new Uint8Array(total)
    const take = Math.min(total - this.#bodyFill, available)
    this.#body.set(bytes.subarray(at, at + take), this.#bodyFill)
    this.#bodyFill += take
    if (this.#bodyFill === total) this.#finish(this.#current, this.#body.subarray(0, total))
    return at + take
  }

  #finish(header: FrameHeader, body: Uint8Array): void {
    const ciphertext = body.subarray(0, header.length)
    const tag = body.subarray(header.length)
    const payload = this.#opener.open(this.#header, ciphertext, tag)
    this.#current = null
    this.#headerFill = 0
    this.#bodyFill = 0
    if (this.#handler === null) this.#keep(header, payload)
    else this.#handler(header, payload)
  }
}

function refusal(thrown: unknown, peer: string): RingError {
  if (thrown instanceof RingError) return thrown
  if (thrown instanceof WireError) return new RingError('BAD_FRAME', thrown.message, { cause: thrown, peer })
  throw thrown
}
