/** Rings of exchanges in this process: real sealed links over carriers in memory, with members that can be made hostile. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { FRAME_HEADER_BYTES, FRAME_TAG_BYTES, type FrameHeader, type SealedKeys } from '@gym-node/wire'
import { DEFAULT_LIMITS, RingError, type Integrity, type WireType } from '../src/index.ts'
import { Lanes } from '../src/link/lanes.ts'
import { SealedLink } from '../src/link/sealed-link.ts'
import type { ByteSink, Carrier } from '../src/net/carrier.ts'
import { CarrierInbox } from '../src/net/carrier.ts'
import { exchange } from '../src/round/exchange.ts'
import { RoundMemory } from '../src/round/round-memory.ts'
import { Fingerprints, hashFacts, nameResult } from '../src/round/fingerprint.ts'
import { Witness } from '../src/round/witness.ts'
import { identityOf } from './rig.ts'

/** One end of a pipe in memory. Bytes arrive in pieces, later; `isFull` makes every send ask for a pause. */
export class PipeEnd implements Carrier {
  readonly kind = 'direct'
  readonly queuedBytes = 0
  readonly inbox = new CarrierInbox()
  other: PipeEnd | null = null
  isFull = false
  /** cuts a delivery into pieces; what it leaves out never arrives */
  cut: (bytes: Uint8Array) => Uint8Array[] = (bytes) => [bytes]
  #pending: (() => void)[] = []
  #scheduled = false

  send(buffers: readonly Uint8Array[], written?: () => void): boolean {
    const { other } = this
    const bytes = Buffer.concat(buffers)
    for (const piece of this.cut(bytes)) this.#later(() => other?.arrive(piece))
    this.#later(() => {
      assert.deepEqual(Buffer.concat(buffers), bytes, 'memory of a frame changed before it was written')
      written?.()
    })
    return !this.isFull
  }

  arrive(bytes: Uint8Array): void {
    const refusal = this.inbox.deliver(bytes)
    if (refusal !== null) this.abort(refusal)
  }

  async drained(): Promise<void> {
    await new Promise((resolve) => this.#later(() => resolve(null)))
    if (this.inbox.end !== null) throw this.inbox.end
  }

  receive(sink: ByteSink | ((bytes: Uint8Array) => void)): void {
    this.inbox.receive(sink)
  }

  onEnd(handler: (reason: RingError) => void): () => void {
    return this.inbox.onEnd(handler)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  abort(reason: RingError): void {
    this.inbox.finish(reason)
  }

  /** The other end sees the end after what was sent before it, as on a socket. */
  hangUp(): void {
    this.#later(() => this.other?.abort(new RingError('PEER_LOST', 'closed by the peer')))
  }

  /** In order, one step per turn of the event loop. */
  #later(step: () => void): void {
    this.#pending.push(step)
    if (this.#scheduled) return
    this.#scheduled = true
    const next = (): void => {
      this.#pending.shift()?.()
      this.#scheduled = this.#pending.length > 0
      if (this.#scheduled) setImmediate(next)
    }
    setImmediate(next)
  }
}

/** What a hostile member does to the frames it sends on: change the payload, or the header, or send something else. */
export type Tamper = (
  header: Omit<FrameHeader, 'length'>,
  payload: Uint8Array,
) => readonly { header: Omit<FrameHeader, 'length'>; payload: Uint8Array }[]

export interface RigOptions {
  readonly vectors: readonly Float32Array[]
  readonly weights?: readonly number[]
  readonly wire?: WireType
  readonly integrity?: Integrity
  readonly lanes?: number
  readonly chunkBytes?: number
  readonly round?: number
  readonly epoch?: number
  readonly residuals?: readonly (Uint16Array | null)[]
  /** by position of the member that sends */
  readonly tamper?: ReadonlyMap<number, Tamper>
  readonly signal?: AbortSignal
  readonly onPipe?: (sender: number, end: PipeEnd) => void
}

export interface Outcome {
  readonly result: Float32Array
  readonly residual: Uint16Array
  /** the result's name, or why there is none */
  readonly name: string | null
  readonly error: RingError | null
}

function keysOf(label: string): { near: SealedKeys; far: SealedKeys } {
  const bytes = (what: string): Uint8Array => createHash('sha3-256').update(`${label} ${what}`).digest()
  const [a, b] = ['a', 'b'].map((end) => ({
    key: bytes(`${end} key`),
    iv: bytes(`${end} iv`).subarray(0, 12),
  }))
  return { near: { send: a, receive: b }, far: { send: b, receive: a } }
}

/** Runs one exchange on every member and waits until each has ended, one way or the other. */
export async function runRing(o: RigOptions): Promise<Outcome[]> {
  const count = o.vectors.length
  const limits = { ...DEFAULT_LIMITS, chunkBytes: o.chunkBytes ?? 64 }
  const identities = o.vectors.map((_, i) => identityOf(i))
  const members = identities.map(({ peerId }) => peerId)
  const to: Lanes[] = []
  const from: Lanes[] = []
  const ends: PipeEnd[] = []
  for (let i = 0; i < count; i++) {
    const next = (i + 1) % count
    const pairs = Array.from({ length: o.lanes ?? 1 }, (_, lane) => {
      const [near, far] = [new PipeEnd(), new PipeEnd()]
      near.other = far
      far.other = near
      o.onPipe?.(i, near)
      ends.push(near, far)
      const keys = keysOf(`${i} ${lane} ${o.epoch ?? 1}`)
      return [
        new SealedLink(near, keys.near, members[next], limits),
        new SealedLink(far, keys.far, members[i], limits),
      ] as const
    })
    const tamper = o.tamper?.get(i)
    for (const [link] of pairs) if (tamper !== undefined) corrupt(link, tamper)
    to[i] = new Lanes([pairs[0][0], ...pairs.slice(1).map(([link]) => link)])
    from[next] = new Lanes([pairs[0][1], ...pairs.slice(1).map(([, link]) => link)])
  }
  const weights = o.weights ?? o.vectors.map(() => 1)
  const totalWeight = weights.reduce((sum, weight) => sum + weight, 0)
  const round = o.round ?? 1
  const view = { ringId: 'ab', epoch: o.epoch ?? 1, members }
  const contributions = members.map((peerId, i) => ({ peerId, weight: weights[i], commitment: null }))
  const facts = hashFacts({ view, round, totalWeight, contributions })
  const wire = o.wire ?? 'f32'
  return Promise.all(
    o.vectors.map(async (vector, position) => {
      // Every other member works in its kernels' memory, the rest through copies: nobody may see a difference.
      const isInPlace = position % 2 === 0
      const memory = new RoundMemory(wire, vector.length, limits.chunkBytes)
      const result = (isInPlace ? memory.results.take() : new Float32Array(vector.length)).fill(NaN)
      const residual = isInPlace ? memory.residuals.take() : new Uint16Array(vector.length)
      if (isInPlace) memory.vector.set(vector)
      const isSigned = o.integrity === 'signed'
      const fingerprints = isSigned ? null : new Fingerprints(facts, count)
      const identity = identities[position]
      const about = { identity, to: to[position], view, position, round, wire, facts, result }
      const witness = isSigned ? new Witness(about) : null
      try {
        await exchange({
          from: from[position],
          to: to[position],
          vector: isInPlace ? memory.vector : vector,
          result,
          weight: weights[position],
          totalWeight,
          round,
          position,
          count,
          chunkBytes: limits.chunkBytes,
          wire,
          memory,
          residual: o.residuals?.[position] ?? null,
          newResidual: wire === 'int8' ? residual : null,
          fingerprints,
          witness,
          stallMs: 30_000,
          signal: o.signal ?? new AbortController().signal,
        })
        const { key, tags } = witness?.testimony ?? { key: facts, tags: fingerprints?.finish() ?? [] }
        return {
          result,
          residual,
          name: Buffer.from(nameResult(facts, key, tags)).toString('hex'),
          error: null,
        }
      } catch (thrown) {
        const error = thrown as RingError
        // What the ring does with a failed round: its links are dropped, so that the others notice.
        for (const link of [...to[position].links, ...from[position].links]) {
          link.abort(error)
          ;(link.carrier as PipeEnd).hangUp()
        }
        return { result, residual, name: null, error }
      }
    }),
  )
}

/** The same key signs whatever the hostile member wants: it seals its own frames, after all. */
function corrupt(link: SealedLink, tamper: Tamper): void {
  const send = link.send.bind(link)
  link.send = (header, payload) => {
    let more = true
    for (const frame of tamper(header, payload)) more = send(frame.header, frame.payload)
    return more
  }
  link.sendInPlace = (header, frame, release) => {
    const more = link.send(header, frame.slice(FRAME_HEADER_BYTES, -FRAME_TAG_BYTES))
    release()
    return more
  }
}
