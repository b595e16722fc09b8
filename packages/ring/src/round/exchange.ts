/**
 * One round over two links: from the predecessor, to the successor. Chunks are added (or stored) and passed on as they
 * come. The only memory is the result itself: what waits to be sent lies in it, so reading never waits for writing.
 */
import type { FrameHeader } from '@gym-node/wire'
import { RingError } from '../errors.ts'
import type { SealedLink } from '../link/sealed-link.ts'
import { FRAME_KIND } from '../link/sealed-link.ts'
import { receiveSteps, sendSteps, type Step } from '../plan.ts'
import { addScaled, addVector, divide, scaleInto } from '../reduce.ts'
import type { WireType } from '../types.ts'
import { decodeValues, encodedBytes, encodeValues } from './encoding.ts'

/** What an exchange works on. `position` and `count` are this node's place in the view. */
export interface ExchangeOptions {
  readonly from: SealedLink
  readonly to: SealedLink
  readonly vector: Float32Array
  readonly weight: number
  readonly totalWeight: number
  readonly round: number
  readonly position: number
  readonly count: number
  readonly chunkBytes: number
  readonly wire: WireType
  /** what earlier rounds' rounding left over here; added to the vector, and renewed */
  readonly residual: Float32Array | null
  readonly stallMs: number
  readonly signal: AbortSignal
}

/** The mean, and what rounding for the wire left over here (null where nothing is rounded). */
export interface ExchangeResult {
  readonly mean: Float32Array
  readonly residual: Float32Array | null
}

/** Runs the exchange; resolves with the result. Rejects with the RingError of the link that failed, or the signal's reason. */
export function exchange(options: ExchangeOptions): Promise<ExchangeResult> {
  return new Exchange(options).run()
}

/** The mean of one member alone: what its own vector is after weighting and dividing. */
export function aloneMean(vector: Float32Array, weight: number): Float32Array {
  const mean = new Float32Array(vector.length)
  scaleInto(mean, vector, 0, weight)
  divide(mean, weight)
  return mean
}

class Exchange {
  readonly #o: ExchangeOptions
  readonly #sends: readonly Step[]
  readonly #receives: readonly Step[]
  readonly #firstMove: number
  readonly #result: Float32Array
  readonly #residual: Float32Array | null
  #received = 0
  #mayGo = false
  #sent = false
  #over = false
  #lastProgress = -1
  #wake: (() => void) | null = null
  readonly #done = Promise.withResolvers<ExchangeResult>()

  constructor(options: ExchangeOptions) {
    this.#o = options
    const chunkElements = Math.max(1, Math.floor(options.chunkBytes / 4))
    const { length } = options.vector
    this.#sends = sendSteps(length, options.count, options.position, chunkElements)
    this.#receives = receiveSteps(length, options.count, options.position, chunkElements)
    this.#firstMove = this.#sends.filter((step) => step.move === 0).length
    this.#result = new Float32Array(length)
    this.#residual = options.wire === 'f32' ? null : new Float32Array(length)
  }

  async run(): Promise<ExchangeResult> {
    const { from, to, signal, round } = this.#o
    const fail = (reason: RingError): void => this.#done.reject(reason)
    const onAbort = (): void => this.#done.reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    from.onEnd(fail)
    to.onEnd(fail)
    from.onFrame((header, payload) => this.#onChunk(header, payload))
    to.onFrame((header) => this.#onGo(header))
    from.send({ kind: FRAME_KIND.go, move: 0, round, chunk: 0 }, new Uint8Array(0))
    this.#pump().then(
      () => {
        this.#sent = true
        this.#finishWhenComplete()
      },
      (thrown: unknown) => this.#done.reject(thrown),
    )
    const watch = setInterval(() => this.#checkProgress(), this.#o.stallMs)
    try {
      return await this.#done.promise
    } finally {
      clearInterval(watch)
      signal.removeEventListener('abort', onAbort)
      from.park()
      to.park()
      this.#over = true
      this.#notify()
    }
  }

  /** Sends every step in order, each as soon as its data is here and the link takes more. */
  async #pump(): Promise<void> {
    const { to, round } = this.#o
    for (let i = 0; i < this.#sends.length; i++) {
      while (!this.#over && (!this.#mayGo || i >= this.#firstMove + this.#received)) await this.#change()
      if (this.#over) return
      const step = this.#sends[i]
      const kind = step.reduce ? FRAME_KIND.reduce : FRAME_KIND.gather
      const more = to.send({ kind, move: step.move, round, chunk: step.chunk }, this.#payload(step))
      if (!more) await to.drained()
    }
  }

  /** What a step sends. In the reduce phase rounding errors are kept for the next round (error feedback). */
  #payload(step: Step): Uint8Array {
    const { wire } = this.#o
    const { start, end } = step.span
    const values = step.move === 0 ? this.#own(step) : this.#result.subarray(start, end)
    const bytes = encodeValues(wire, values)
    if (step.reduce) this.#keepError(start, values, bytes, 1)
    return bytes
  }

  /** This node's own weighted values of a span, with what earlier rounds owe. */
  #own({ span: { start, end } }: Step): Float32Array {
    const { vector, weight, residual } = this.#o
    if (weight === 1 && residual === null) return vector.subarray(start, end)
    const scaled = this.#result.subarray(start, end)
    scaleInto(scaled, vector, start, weight)
    if (residual !== null) addVector(scaled, residual, start)
    return scaled
  }

  /** residual = (value - what the wire made of it) * unit, in the unit of weighted sums. */
  #keepError(start: number, values: Float32Array, bytes: Uint8Array, unit: number): void {
    if (this.#residual === null) return
    const decoded = decodeValues(this.#o.wire, bytes, values.length)
    for (let i = 0; i < values.length; i++) {
      const error = ((values[i] ?? 0) - (decoded[i] ?? 0)) * unit
      this.#residual[start + i] = Number.isFinite(error) ? error : 0
    }
  }

  /** The owner rounds its finished span as the wire will, so that it ends with the bits that the others get. */
  #finishSpan(start: number, target: Float32Array): void {
    const { wire, totalWeight } = this.#o
    divide(target, totalWeight)
    if (wire === 'f32') return
    const bytes = encodeValues(wire, target)
    this.#keepError(start, target, bytes, totalWeight)
    target.set(decodeValues(wire, bytes, target.length))
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  #notify(): void {
    this.#wake?.()
    this.#wake = null
  }

  #onGo(header: FrameHeader): void {
    if (header.kind !== FRAME_KIND.go || header.round !== this.#o.round || this.#mayGo) {
      throw new RingError(
        'BAD_FRAME',
        `frame kind ${header.kind} of round ${header.round} is not a go for this round`,
      )
    }
    this.#mayGo = true
    this.#notify()
    this.#finishWhenComplete()
  }

  #onChunk(header: FrameHeader, payload: Uint8Array): void {
    const step = this.#receives[this.#received]
    this.#expect(header, step)
    const { start, end } = step.span
    const { wire, vector, weight, residual } = this.#o
    const values = decodeValues(wire, payload, end - start)
    const target = this.#result.subarray(start, end)
    if (step.reduce) {
      addScaled(target, values, vector, start, weight)
      if (residual !== null) addVector(target, residual, start)
      if (step.finish) this.#finishSpan(start, target)
    } else target.set(values)
    release(payload)
    this.#received += 1
    this.#notify()
    this.#finishWhenComplete()
  }

  /** Called once per stall time: nothing since the last call means that somebody up the ring is stuck. */
  #checkProgress(): void {
    const progress = this.#received + (this.#mayGo ? 1 : 0)
    if (progress === this.#lastProgress) {
      this.#done.reject(
        new RingError('TIMEOUT', `round ${this.#o.round} stood still for ${this.#o.stallMs} ms`),
      )
    }
    this.#lastProgress = progress
  }

  /** The plan says what the next frame is; anything else is not from an honest predecessor. */
  #expect(header: FrameHeader, step: Step | undefined): asserts step is Step {
    const seen = `kind ${header.kind}, round ${header.round}, move ${header.move}, chunk ${header.chunk}, ${header.length} bytes`
    if (step === undefined) throw new RingError('BAD_FRAME', `frame after the last one of the round: ${seen}`)
    const kind = step.reduce ? FRAME_KIND.reduce : FRAME_KIND.gather
    const length = encodedBytes(this.#o.wire, step.span.end - step.span.start)
    const fits =
      header.kind === kind &&
      header.round === this.#o.round &&
      header.move === step.move &&
      header.chunk === step.chunk &&
      header.length === length
    if (fits) return
    const wanted = `kind ${kind}, round ${this.#o.round}, move ${step.move}, chunk ${step.chunk}, ${length} bytes`
    throw new RingError('BAD_FRAME', `frame is ${seen}, expected ${wanted}`)
  }

  #finishWhenComplete(): void {
    const isComplete = this.#mayGo && this.#sent && this.#received === this.#receives.length
    if (isComplete) this.#done.resolve({ mean: this.#result, residual: this.#residual })
  }
}

/**
 * Gives the memory of an opened frame back at once instead of at the next collection: most of a round's garbage.
 * Only memory that is this frame's alone; the opener allocates large payloads so.
 */
function release(payload: Uint8Array): void {
  const { buffer } = payload
  if (buffer instanceof ArrayBuffer && buffer.byteLength === payload.byteLength) buffer.transfer(0)
}
