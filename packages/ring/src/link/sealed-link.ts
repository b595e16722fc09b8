/** Sealed frames over a carrier, both ways. A frame that does not open ends the link; nothing of it is passed on. */
import type { FrameHeader, SealedKeys } from '@gym-node/wire'
import {
  FRAME_HEADER_BYTES,
  FRAME_TAG_BYTES,
  frameBytes,
  FrameOpener,
  FrameSealer,
  WireError,
} from '@gym-node/wire'
import type { RingLimits } from '../defaults.ts'
import { RingError } from '../errors.ts'
import type { ByteSink, Carrier } from '../net/carrier.ts'
import { FrameMemory } from './frame-memory.ts'
import { Pace } from './pace.ts'

/** What frames are for. */
export const FRAME_KIND = {
  /** the receiver of a round is ready: its predecessor may send */
  go: 1,
  reduce: 2,
  gather: 3,
  /** `signed`: a member's random part of the key that fingerprints are made under */
  challenge: 4,
  /** `signed`: what a member holds, under its signatures */
  claim: 5,
  /** the sender has broken the round off; its link ends next, which is then no fault of the link */
  broken: 6,
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

/** Requests, offers and signatures with their key bindings must fit even where chunks are tiny. */
const MIN_PAYLOAD_LIMIT = 16_384

/** Small frames kept while nobody listens: a neighbour may be ready for the next round first. */
const MAX_KEPT_FRAMES = 2
const MAX_KEPT_BYTES = 1024

/**
 * Takes one opened frame, whose payload is its own from then on, or lies where `FrameRoom` wanted it. It throws RingError
 * to refuse it, which ends the link.
 */
export type FrameHandler = (header: FrameHeader, payload: Uint8Array) => void

/**
 * Where the payload of a frame is to be opened, exactly as long; null for fresh memory. Nothing vouches for the header
 * yet, and what is written there is the peer's whether or not it then proves right.
 */
export type FrameRoom = (header: FrameHeader) => Uint8Array | null

/** An authenticated, post-quantum link to one peer. */
export class SealedLink implements ByteSink {
  readonly peer: string
  readonly carrier: Carrier
  bytesSent = 0
  bytesReceived = 0
  /** bytes of the frame that is coming in, or of the last one */
  hintBytes = frameBytes(0)
  /** how fast frames come in */
  readonly pace = new Pace()
  readonly #sealer: FrameSealer
  readonly #opener: FrameOpener
  readonly #memory = new FrameMemory()
  /** what to call for frames in place that the carrier still has */
  readonly #unsent = new Set<() => void>()
  #isOver = false
  #current: FrameHeader | null = null
  #handler: FrameHandler | null = null
  #room: FrameRoom | null = null
  #attached = false
  #kept: { header: FrameHeader; payload: Uint8Array }[] = []

  constructor(carrier: Carrier, keys: SealedKeys, peer: string, limits: RingLimits) {
    this.carrier = carrier
    this.peer = peer
    this.#sealer = new FrameSealer(keys.send)
    this.#opener = new FrameOpener(keys.receive, {
      maxPayloadBytes: Math.max(limits.chunkBytes, MIN_PAYLOAD_LIMIT),
    })
    carrier.onEnd(() => {
      this.#isOver = true
      for (const release of this.#unsent) release()
      this.#unsent.clear()
    })
  }

  /** Seals and queues a frame; `payload` may change afterwards. False: await `drained` before the next. */
  send(header: Omit<FrameHeader, 'length'>, payload: Uint8Array): boolean {
    const frame = this.#sealer.seal(header, payload, this.#memory.take(frameBytes(payload.byteLength)))
    this.bytesSent += frame.byteLength
    return this.carrier.send([frame], () => this.#memory.giveBack(frame))
  }

  /** Whether `sendInPlace` may be used: a stream keeps pieces of what it is given. */
  get sealsInPlace(): boolean {
    return this.carrier.kind === 'direct'
  }

  /**
   * The same for a payload that lies in the middle of memory for its frame and may be overwritten. `release` is called
   * once, when the memory is free again, also where the link has ended.
   */
  sendInPlace(header: Omit<FrameHeader, 'length'>, frame: Uint8Array, release: () => void): boolean {
    // First, so that the end of the link also frees what could not be sealed.
    this.#unsent.add(release)
    this.#sealer.seal(header, frame.subarray(FRAME_HEADER_BYTES, -FRAME_TAG_BYTES), frame)
    this.bytesSent += frame.byteLength
    // A socket may still report a frame as written that the end of the link has freed, and by then it is another's.
    const free = (): void => {
      if (this.#unsent.delete(release)) release()
    }
    const hasRoom = this.carrier.send([frame], free)
    if (this.#isOver) free()
    return hasRoom
  }

  drained(): Promise<void> {
    return this.carrier.drained()
  }

  /**
   * Sets who gets the frames from now on; those kept since `park` are handed over first. Before the first call bytes
   * wait, sealed, in the carrier.
   */
  onFrame(handler: FrameHandler, room: FrameRoom | null = null): void {
    this.#handler = handler
    this.#room = room
    const kept = this.#kept
    this.#kept = []
    this.#guarded(() => {
      for (const { header, payload } of kept) handler(header, payload)
    })
    if (this.#attached) return
    this.#attached = true
    this.carrier.receive(this)
  }

  /** Nobody takes frames for now. A few small ones are kept. */
  park(): void {
    this.#handler = null
    this.#room = null
  }

  onEnd(handler: (reason: RingError) => void): () => void {
    return this.carrier.onEnd(handler)
  }

  close(): Promise<void> {
    return this.carrier.close()
  }

  abort(reason: RingError): void {
    this.carrier.abort(reason)
  }

  /** Opens the whole frames in `bytes`; part of one is left for the next call. */
  take(bytes: Uint8Array): number {
    let at = 0
    this.#guarded(() => {
      while (this.#step(bytes, at)) at += this.hintBytes
    })
    this.bytesReceived += at
    return at
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

  /** Opens the frame at `at` when all of it is there. The header is checked against the limits as soon as it is. */
  #step(bytes: Uint8Array, at: number): boolean {
    const available = bytes.byteLength - at
    if (available < FRAME_HEADER_BYTES) return false
    this.#current ??= this.#opener.readHeader(bytes.subarray(at, at + FRAME_HEADER_BYTES))
    const current = this.#current
    this.hintBytes = frameBytes(current.length)
    if (available < this.hintBytes) {
      this.pace.partial(performance.now(), available)
      return false
    }
    this.pace.complete(performance.now(), this.hintBytes)
    const frame = bytes.subarray(at, at + this.hintBytes)
    const payload = this.#opener.open(frame, this.#room?.(current) ?? undefined)
    this.#current = null
    if (this.#handler === null) this.#keep(current, payload)
    else this.#handler(current, payload)
    return true
  }
}

function refusal(thrown: unknown, peer: string): RingError {
  if (thrown instanceof RingError) return thrown
  if (thrown instanceof WireError) return new RingError('BAD_FRAME', thrown.message, { cause: thrown, peer })
  throw thrown
}
