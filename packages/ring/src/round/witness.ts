/**
 * `integrity: signed`: proof that every segment is what its owner finished, whoever passed it on. A member that holds
 * all segments draws a random challenge; all challenges together are the key of the fingerprints, so nobody knew it
 * while bytes could still be changed. Each member then signs the fingerprints of what it holds, and hands its result
 * out only when the claims of all are its own. docs/PROTOCOL.md argues why that binds, and whom it can accuse.
 */
import { randomBytes } from 'node:crypto'
import { sha3_256, type FrameHeader, type Identity } from '@gym-node/wire'
import { RingError } from '../errors.ts'
import type { Lanes } from '../link/lanes.ts'
import { FRAME_KIND } from '../link/sealed-link.ts'
import { segmentSpan } from '../plan.ts'
import type { View, WireType } from '../types.ts'
import {
  CHALLENGE_BYTES,
  encodeChallenge,
  encodeClaim,
  findDisagreement,
  isStatementOf,
  openClaim,
  statementBytes,
  type Claim,
  type StatementKind,
  type StatementScope,
} from './claims.ts'
import { fingerprint } from './fingerprint.ts'

/** What a witness works on. */
export interface WitnessOptions {
  readonly identity: Identity
  readonly to: Lanes
  readonly view: View
  readonly position: number
  readonly round: number
  readonly wire: WireType
  /** hash of what was agreed on before the round: `hashFacts` */
  readonly facts: Uint8Array
  readonly result: Float32Array
}

/** What was proved. */
export interface Testimony {
  readonly key: Uint8Array
  /** one fingerprint a segment */
  readonly tags: readonly Uint8Array[]
}

/** One member's witness in one exchange. Frames come in ring order, the predecessor's own first. */
export class Witness {
  readonly #o: WitnessOptions
  readonly #members: readonly string[]
  readonly #scope: StatementScope
  readonly #challenges = new Map<number, Uint8Array>()
  readonly #claims = new Map<number, Uint8Array>()
  #wake: (() => void) | null = null
  testimony: Testimony | null = null

  constructor(options: WitnessOptions) {
    const { view, round } = options
    this.#o = options
    this.#members = view.members
    this.#scope = { ringId: view.ringId, epoch: view.epoch, round }
  }

  /** grows with every frame: tells a slow ring from a stuck one */
  get progress(): number {
    return this.#challenges.size + this.#claims.size
  }

  /** Call when every segment is here, not before. Rejects with RingError BAD_SIGNATURE when not all hold the same. */
  async run(): Promise<void> {
    const { identity, facts, position, wire } = this.#o
    const count = this.#members.length
    const own = encodeChallenge(identity, this.#scope, new Uint8Array(randomBytes(CHALLENGE_BYTES)))
    this.#begin('challenge', this.#challenges, own)
    await this.#complete(this.#challenges)
    const key = sha3_256(facts, ...this.#members.map((_, i) => this.#challenge(i)))
    const tags: Uint8Array[] = []
    for (let segment = 0; segment < count; segment++) tags.push(await this.#fingerprint(key, segment))
    const claim: Claim = { about: sha3_256(facts, new TextEncoder().encode(wire)), key, tags }
    this.#begin('claim', this.#claims, encodeClaim(identity, this.#scope, claim))
    await this.#complete(this.#claims)
    this.#judge(this.#members.map((_, i) => (i === position ? claim : this.#open(i))))
    this.testimony = { key, tags }
  }

  /** Takes a statement and passes it on. Throws RingError: BAD_FRAME when it is not the next due, BAD_SIGNATURE. */
  onFrame(header: FrameHeader, payload: Uint8Array): void {
    const { position } = this.#o
    const kind = header.kind === FRAME_KIND.challenge ? 'challenge' : 'claim'
    const seen = kind === 'challenge' ? this.#challenges : this.#claims
    const count = this.#members.length
    const others = seen.size - (seen.has(position) ? 1 : 0)
    const due = (position - 1 - others + 2 * count) % count
    const length = statementBytes(kind, count)
    if (others >= count - 1 || header.move !== due || header.length !== length || header.chunk !== 0) {
      const what = `${kind} of member ${header.move}, ${header.length} bytes`
      throw new RingError('BAD_FRAME', `frame is a ${what}, expected member ${due}, ${length} bytes`)
    }
    if (!isStatementOf(this.#members[due], kind, this.#scope, payload)) {
      const peer = this.#members[(position - 1 + count) % count]
      const message = `the ${kind} of member ${due} is not what that member signed, and the neighbour passed it on`
      throw new RingError('BAD_SIGNATURE', message, { peer, suspects: [peer] })
    }
    const isOwnOut = seen.has(position)
    seen.set(due, payload)
    if (isOwnOut) this.#passOn(kind, due, payload)
    this.#wake?.()
  }

  /** Sends this member's own statement, then those of others that came before it was ready. */
  #begin(kind: StatementKind, seen: Map<number, Uint8Array>, own: Uint8Array): void {
    const { position } = this.#o
    this.#send(kind, position, own)
    for (const [member, payload] of seen) this.#passOn(kind, member, payload)
    seen.set(position, own)
  }

  /** Around the ring, up to the one before the member it comes from. */
  #passOn(kind: StatementKind, member: number, payload: Uint8Array): void {
    if (member !== (this.#o.position + 1) % this.#members.length) this.#send(kind, member, payload)
  }

  #send(kind: StatementKind, member: number, payload: Uint8Array): void {
    const { to, round } = this.#o
    to.first.send({ kind: FRAME_KIND[kind], move: member, round, chunk: 0 }, payload)
  }

  async #complete(map: ReadonlyMap<number, Uint8Array>): Promise<void> {
    while (map.size < this.#members.length) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  #challenge(member: number): Uint8Array {
    return (this.#challenges.get(member) ?? new Uint8Array(0)).subarray(0, CHALLENGE_BYTES)
  }

  #fingerprint(key: Uint8Array, segment: number): Promise<Uint8Array> {
    const { result } = this.#o
    const { start, end } = segmentSpan(result.length, this.#members.length, segment)
    const bytes = new Uint8Array(result.buffer, result.byteOffset + start * 4, (end - start) * 4)
    return fingerprint(key, segment, bytes)
  }

  /** Another member's claim. One that only its Ed25519 key stands for is that member's own doing. */
  #open(member: number): Claim {
    const peer = this.#members[member]
    const payload = this.#claims.get(member) ?? new Uint8Array(0)
    const claim = openClaim(peer, this.#scope, this.#members.length, payload)
    if (claim !== null) return claim
    const message = `the claim of member ${member} (${peer}) has no ML-DSA-87 signature of its keys`
    throw new RingError('BAD_SIGNATURE', message, { peer, suspects: [peer] })
  }

  /**
   * Accuses a peer only of what this member knows: that a neighbour claims something else than what it sent here, or
   * than what it was sent from here. Of two other neighbours that differ, nobody but they can tell which one it was.
   */
  #judge(claims: readonly Claim[]): void {
    const disagreement = findDisagreement(claims)
    if (disagreement === null) return
    const { what, pairs } = disagreement
    const { position } = this.#o
    const name = (member: number): string => `member ${member} (${this.#members[member]})`
    const own = pairs.find((pair) => pair.includes(position))
    const culprit = own?.find((member) => member !== position)
    const between = pairs.map(([a, b]) => `${name(a)} and ${name(b)}`).join('; ')
    const who =
      culprit !== undefined
        ? `the neighbour ${name(culprit)} claims something else than what passed between it and this member`
        : pairs.length > 0
          ? `one of these is at fault: ${between}`
          : 'some member told others different things; nobody can be named'
    const suspects = culprit === undefined ? pairs.flat() : [culprit]
    throw new RingError('BAD_SIGNATURE', `members do not agree on ${what}: ${who}`, {
      suspects: suspects.map((member) => this.#members[member]),
      ...(culprit === undefined ? {} : { peer: this.#members[culprit] }),
    })
  }
}
