/**
 * One round over two links: from the predecessor, to the successor. A chunk is opened, added (or stored), sealed and
 * passed on while it is in cache. What cannot be sent yet is kept as wire bytes, so reading never waits for writing.
 */
import type { FrameHeader } from '@gym-node/wire'
import { RingError } from '../errors.ts'
import type { Part } from '../kernels/chunk-math.ts'
import { encodedBytes } from '../kernels/chunk-memory.ts'
import type { Lanes } from '../link/lanes.ts'
import { FRAME_KIND, type SealedLink } from '../link/sealed-link.ts'
import { chunkElements, receiveSteps, sendSteps, type Step } from '../plan.ts'
import type { WireType } from '../types.ts'
import type { Fingerprints } from './fingerprint.ts'
import type { RoundMemory } from './round-memory.ts'
import type { Witness } from './witness.ts'

/** What an exchange works on. `position` and `count` are this node's place in the view. */
export interface ExchangeOptions {
  readonly from: Lanes
  readonly to: Lanes
  /** this node's own values; only read */
  readonly vector: Float32Array
  /** where the mean goes, as long as the vector; its content means nothing until the promise resolves */
  readonly result: Float32Array
  readonly weight: number
  readonly totalWeight: number
  readonly round: number
  readonly position: number
  readonly count: number
  readonly chunkBytes: number
  readonly wire: WireType
  /** for the wire type, the vector's length and chunks of `chunkBytes`; no other exchange may use it meanwhile */
  readonly memory: RoundMemory
  /** what earlier rounds' rounding left over here, in bf16; added to the vector */
  readonly residual: Uint16Array | null
  /** where what this round's rounding leaves over goes; null where nothing is kept */
  readonly newResidual: Uint16Array | null
  /** told the wire bytes of every finished segment; null where fingerprints are made afterwards */
  readonly fingerprints: Fingerprints | null
  /** `signed`: proves every segment once all are here */
  readonly witness: Witness | null
  readonly stallMs: number
  readonly signal: AbortSignal
}

/**
 * Runs the exchange. Rejects with the RingError of the link that failed or of what was refused, or the signal's reason;
 * after that nothing touches `result` or `newResidual` any more.
 */
export function exchange(options: ExchangeOptions): Promise<void> {
  return new Exchange(options).run()
}

class Exchange {
  readonly #o: ExchangeOptions
  readonly #memory: RoundMemory
  readonly #bytes: Uint8Array
  readonly #sends: readonly Step[]
  readonly #receives: readonly Step[]
  /** what waits to be sent, as wire bytes; null where it can lie in the result */
  readonly #codes: Uint8Array | null
  readonly #codeBytes: number
  /** sends that need nothing from the predecessor; send `i` beyond them needs receive `i - first` */
  readonly #first: number
  readonly #isHere: Uint8Array
  /** per lane: the next step it takes */
  readonly #nextSend: number[]
  readonly #nextReceive: number[]
  readonly #isFull: boolean[]
  /** per segment: the next chunk to be fingerprinted */
  readonly #nextPrint: number[]
  #received = 0
  #sent = 0
  #mayGo = false
  #isComplete = false
  #over = false
  #lastProgress = -1
  readonly #done = Promise.withResolvers<void>()

  constructor(options: ExchangeOptions) {
    this.#o = options
    const { vector, result, count, position, to, from } = options
    const elements = chunkElements(options.wire, options.chunkBytes, vector.length, count)
    this.#memory = options.memory
    this.#bytes = new Uint8Array(result.buffer, result.byteOffset, result.byteLength)
    this.#sends = sendSteps(vector.length, count, position, elements)
    this.#receives = receiveSteps(vector.length, count, position, elements)
    this.#first = this.#sends.filter((step) => step.move === 0).length
    const longest = Math.min(elements, Math.ceil(vector.length / count))
    this.#codeBytes = encodedBytes(options.wire, longest)
    const waiting = this.#sends.length - this.#first
    this.#codes = options.wire === 'f32' ? null : options.memory.codes(waiting * this.#codeBytes)
    this.#isHere = new Uint8Array(this.#receives.length)
    this.#nextSend = to.links.map((_, lane) => lane)
    this.#nextReceive = from.links.map((_, lane) => lane)
    this.#isFull = to.links.map(() => false)
    this.#nextPrint = Array.from({ length: count }, () => 0)
  }

  async run(): Promise<void> {
    const { from, to, signal, round, stallMs } = this.#o
    const fail = (reason: unknown): void => this.#done.reject(reason)
    const onAbort = (): void => fail(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    const forget = [from.onEnd(fail), to.onEnd(fail)]
    from.links.forEach((link, lane) => {
      link.onFrame(
        (header, payload) => this.#onFrame(lane, header, payload),
        (header) => this.#room(lane, header),
      )
    })
    to.first.onFrame((header) => this.#fromSuccessor(header))
    from.first.send({ kind: FRAME_KIND.go, move: 0, round, chunk: 0 }, new Uint8Array(0))
    const watch = setInterval(() => this.#checkProgress(), stallMs)
    try {
      await this.#done.promise
    } catch (thrown) {
      this.#tellNeighbours()
      throw thrown
    } finally {
      this.#over = true
      clearInterval(watch)
      signal.removeEventListener('abort', onAbort)
      // The links live on; without this they would keep every round's vectors.
      for (const unsubscribe of forget) unsubscribe()
      from.park()
      to.park()
    }
  }

  /** Whoever breaks off says so, or its neighbours would take the end of its links for a failure of the links. */
  #tellNeighbours(): void {
    const { from, to, round } = this.#o
    const header = { kind: FRAME_KIND.broken, move: 0, round, chunk: 0 }
    for (const link of [from.first, to.first]) link.send(header, new Uint8Array(0))
  }

  #onBroken(peer: string): void {
    const message = `the neighbour broke round ${this.#o.round} off; its own log says why`
    this.#done.reject(new RingError('BROKEN_OFF', message, { peer }))
  }

  #isBroken({ kind, round }: FrameHeader): boolean {
    return kind === FRAME_KIND.broken && round === this.#o.round
  }

  /** Sends on every lane what is ready, until it takes no more. */
  #advance(): void {
    for (let lane = 0; lane < this.#nextSend.length; lane++) this.#advanceLane(lane)
  }

  #advanceLane(lane: number): void {
    while (this.#canSend(lane)) {
      const index = this.#nextSend[lane]
      this.#send(lane, this.#payload(this.#sends[index], index))
    }
  }

  #canSend(lane: number): boolean {
    const index = this.#nextSend[lane]
    if (this.#over || !this.#mayGo || this.#isFull[lane] || index >= this.#sends.length) return false
    return index < this.#first || this.#isHere[index - this.#first] === 1
  }

  #send(lane: number, payload: Uint8Array): void {
    const { to, round } = this.#o
    const { move, chunk, reduce } = this.#sends[this.#nextSend[lane]]
    const kind = reduce ? FRAME_KIND.reduce : FRAME_KIND.gather
    const link = to.links[lane]
    this.#nextSend[lane] += to.links.length
    this.#sent += 1
    const header = { kind, move, round, chunk }
    const lent = link.sealsInPlace ? this.#memory.math.lend(payload) : null
    const hasRoom =
      lent === null ? link.send(header, payload) : link.sendInPlace(header, lent.frame, lent.release)
    if (hasRoom) return
    this.#isFull[lane] = true
    this.#resume(lane, link)
  }

  #resume(lane: number, link: SealedLink): void {
    link.drained().then(
      () => {
        this.#isFull[lane] = false
        this.#advanceLane(lane)
        this.#finishWhenComplete()
      },
      (thrown: unknown) => this.#done.reject(thrown),
    )
  }

  /** What a step sends that was not passed on from cache. */
  #payload(step: Step, index: number): Uint8Array {
    const { wire, vector, weight } = this.#o
    const { start, end } = step.span
    if (index < this.#first) {
      const own = vector.subarray(start, end)
      if (wire === 'f32' && weight === 1) return new Uint8Array(own.buffer, own.byteOffset, own.byteLength)
      return this.#memory.math.send(this.#part(step))
    }
    return this.#place(index).subarray(0, encodedBytes(wire, end - start))
  }

  /** What this node adds to a chunk. */
  #part({ span: { start, end } }: Step): Part {
    const { vector, weight, residual, newResidual } = this.#o
    return {
      own: vector.subarray(start, end),
      weight: Math.fround(weight),
      residual: residual?.subarray(start, end) ?? null,
      kept: newResidual?.subarray(start, end) ?? null,
    }
  }

  /** Where the wire bytes of a send lie until it goes. In f32 that is where its segment's mean is, or will be. */
  #place(index: number): Uint8Array {
    const { start, end } = this.#sends[index].span
    if (this.#codes === null) return this.#bytes.subarray(start * 4, end * 4)
    const at = (index - this.#first) * this.#codeBytes
    return this.#codes.subarray(at, at + this.#codeBytes)
  }

  #fromSuccessor(header: FrameHeader): void {
    if (this.#isBroken(header)) this.#onBroken(this.#o.to.peer)
    else this.#onGo(header)
  }

  #onGo(header: FrameHeader): void {
    if (header.kind !== FRAME_KIND.go || header.round !== this.#o.round || this.#mayGo) {
      throw new RingError(
        'BAD_FRAME',
        `frame kind ${header.kind} of round ${header.round} is not a go for this round`,
      )
    }
    this.#mayGo = true
    this.#advance()
    this.#finishWhenComplete()
  }

  #onFrame(lane: number, header: FrameHeader, payload: Uint8Array): void {
    const { witness } = this.#o
    const isProof = header.kind === FRAME_KIND.challenge || header.kind === FRAME_KIND.claim
    if (isProof && witness !== null && header.round === this.#o.round) {
      witness.onFrame(header, payload)
      return
    }
    if (this.#isBroken(header)) this.#onBroken(this.#o.from.peer)
    else this.#onChunk(lane, header, payload)
  }

  /** The chunk that is due is opened where it is worked on, or where it stays; anything else in memory of its own. */
  #room(lane: number, header: FrameHeader): Uint8Array | null {
    const step = this.#receives.at(this.#nextReceive[lane])
    if (step === undefined || !this.#isDue(header, step)) return null
    const { start, end } = step.span
    if (this.#o.wire === 'f32' && !step.reduce) return this.#bytes.subarray(start * 4, end * 4)
    return this.#memory.math.room(header.length)
  }

  #onChunk(lane: number, header: FrameHeader, payload: Uint8Array): void {
    const index = this.#nextReceive[lane]
    const step = this.#receives[index]
    this.#expect(header, step)
    this.#nextReceive[lane] += this.#nextReceive.length
    const onward = step.reduce ? this.#reduce(step, payload) : this.#store(step, payload)
    this.#isHere[index] = 1
    this.#received += 1
    // Before it is sealed where it lies.
    const isPrinted = (step.finish || !step.reduce) && this.#print(step, onward)
    this.#passOn(this.#first + index, onward)
    if (isPrinted) this.#printWaiting(index, step)
    this.#advance()
    this.#finishWhenComplete()
  }

  /** Adds this node's own values; the last to do so divides, and owns the segment. Returns what goes on. */
  #reduce(step: Step, payload: Uint8Array): Uint8Array {
    const { result, totalWeight } = this.#o
    const { start, end } = step.span
    const { math } = this.#memory
    const part = this.#part(step)
    if (!step.finish) return math.pass(part, payload)
    // Residuals are kept in the unit of weighted sums. The owner ends with the bits that the others get.
    return math.finish(part, payload, totalWeight, result.subarray(start, end))
  }

  #store({ span: { start, end } }: Step, payload: Uint8Array): Uint8Array {
    this.#memory.math.decode(payload, this.#o.result.subarray(start, end))
    return payload
  }

  /** Forwards at once if the lane is free; keeps what must wait. */
  #passOn(index: number, bytes: Uint8Array): void {
    if (index >= this.#sends.length) return
    const lane = index % this.#nextSend.length
    if (this.#nextSend[lane] === index && this.#canSend(lane)) this.#send(lane, bytes)
    else if (this.#sends[index].reduce || this.#codes !== null) this.#place(index).set(bytes)
  }

  /** Fingerprints a finished chunk, unless one before it in its segment is still on another lane. */
  #print({ segment, chunk }: Step, bytes: Uint8Array): boolean {
    const { fingerprints } = this.#o
    if (fingerprints === null || chunk !== this.#nextPrint[segment]) return false
    fingerprints.add(segment, bytes)
    this.#nextPrint[segment] += 1
    return true
  }

  /** Fingerprints those behind it that came first. */
  #printWaiting(index: number, { segment }: Step): void {
    for (let next = index + 1; this.#isHere[next] === 1; next++) {
      const step = this.#receives[next]
      if (step.segment !== segment || !this.#print(step, this.#encodeFinished(step))) return
    }
  }

  /** A mean's wire bytes again: encoding what was decoded gives the same. */
  #encodeFinished({ span: { start, end } }: Step): Uint8Array {
    return this.#memory.math.encode(this.#o.result.subarray(start, end))
  }

  /** Called once per stall time: nothing since the last call means that somebody up the ring is stuck. */
  #checkProgress(): void {
    const progress = this.#received + this.#sent + (this.#mayGo ? 1 : 0) + (this.#o.witness?.progress ?? 0)
    if (progress === this.#lastProgress) {
      this.#done.reject(
        new RingError('TIMEOUT', `round ${this.#o.round} stood still for ${this.#o.stallMs} ms`),
      )
    }
    this.#lastProgress = progress
  }

  /** The plan says what the next frame is; anything else is not from an honest predecessor. */
  #expect(header: FrameHeader, step: Step | undefined): asserts step is Step {
    if (step === undefined) {
      throw new RingError('BAD_FRAME', `frame after the last one of the round: ${described(header)}`)
    }
    if (this.#isDue(header, step)) return
    const { kind, length } = this.#due(step)
    const wanted = `kind ${kind}, round ${this.#o.round}, move ${step.move}, chunk ${step.chunk}, ${length} bytes`
    throw new RingError('BAD_FRAME', `frame is ${described(header)}, expected ${wanted}`)
  }

  #isDue(header: FrameHeader, step: Step): boolean {
    const { kind, length } = this.#due(step)
    return (
      header.kind === kind &&
      header.round === this.#o.round &&
      header.move === step.move &&
      header.chunk === step.chunk &&
      header.length === length
    )
  }

  #due({ reduce, span }: Step): { kind: number; length: number } {
    const kind = reduce ? FRAME_KIND.reduce : FRAME_KIND.gather
    return { kind, length: encodedBytes(this.#o.wire, span.end - span.start) }
  }

  #finishWhenComplete(): void {
    const { witness } = this.#o
    const isComplete =
      this.#mayGo && this.#sent === this.#sends.length && this.#received === this.#receives.length
    if (!isComplete || this.#isComplete) return
    this.#isComplete = true
    if (witness === null) this.#done.resolve()
    else witness.run().then(this.#done.resolve, this.#done.reject)
  }
}

function described({ kind, round, move, chunk, length }: FrameHeader): string {
  return `kind ${kind}, round ${round}, move ${move}, chunk ${chunk}, ${length} bytes`
}
