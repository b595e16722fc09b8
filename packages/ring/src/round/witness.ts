/**
 * `integrity: signed`: proof that every segment is what its owner finished, whoever passed it on. A member that holds
 * all segments draws a random challenge; all challenges together are the key of the fingerprints, so nobody knew it
 * while bytes could still be changed. Each owner signs its segment's fingerprint under that key; a member hands its
 * result out only when the signatures of all owners fit the bytes that it holds. docs/PROTOCOL.md argues why.
 */
import { randomBytes } from 'node:crypto'
import {
  decodeKeyBinding,
  ED25519_SIGNATURE_BYTES,
  encodeKeyBinding,
  KEY_BINDING_BYTES,
  ML_DSA_87_SIGNATURE_BYTES,
  sha3_256,
  verifyEd25519,
  verifyKeyBinding,
  verifyMlDsa87,
  type FrameHeader,
  type Identity,
} from '@gym-node/wire'
import { RingError } from '../errors.ts'
import type { Lanes } from '../link/lanes.ts'
import { FRAME_KIND } from '../link/sealed-link.ts'
import { segmentOwner, segmentSpan } from '../plan.ts'
import type { WireType } from '../types.ts'
import { fingerprint } from './fingerprint.ts'

const CHALLENGE_BYTES = 32
const PROOF_BYTES = KEY_BINDING_BYTES + ED25519_SIGNATURE_BYTES + ML_DSA_87_SIGNATURE_BYTES
const LABEL = new TextEncoder().encode('gym-segment-v1\0')

/** What a witness works on. */
export interface WitnessOptions {
  readonly identity: Identity
  readonly to: Lanes
  readonly members: readonly string[]
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

/** What an owner signs: the round and all that was agreed about it, the key, which segment, and its fingerprint. */
export function statement(
  facts: Uint8Array,
  wire: WireType,
  key: Uint8Array,
  segment: number,
  tag: Uint8Array,
): Uint8Array {
  const about = new TextEncoder().encode(`${wire}\0${segment}\0`)
  return Buffer.concat([LABEL, facts, key, about, tag])
}

/** One member's witness in one exchange. Frames come in ring order, the predecessor's own first. */
export class Witness {
  readonly #o: WitnessOptions
  readonly #challenges = new Map<number, Uint8Array>()
  readonly #proofs = new Map<number, Uint8Array>()
  #wake: (() => void) | null = null
  testimony: Testimony | null = null

  constructor(options: WitnessOptions) {
    this.#o = options
  }

  /** grows with every frame: tells a slow ring from a stuck one */
  get progress(): number {
    return this.#challenges.size + this.#proofs.size
  }

  /** Call when every segment is here, not before. Rejects with RingError BAD_SIGNATURE when one is not its owner's. */
  async run(): Promise<void> {
    const { facts, position, members } = this.#o
    this.#begin(FRAME_KIND.challenge, this.#challenges, new Uint8Array(randomBytes(CHALLENGE_BYTES)))
    await this.#complete(this.#challenges)
    const key = sha3_256(facts, ...members.map((_, i) => this.#challenges.get(i) ?? new Uint8Array(0)))
    const tags: Uint8Array[] = []
    for (let segment = 0; segment < members.length; segment++)
      tags.push(await this.#fingerprint(key, segment))
    const segment = members.findIndex((_, i) => segmentOwner(i, members.length) === position)
    this.#begin(FRAME_KIND.signature, this.#proofs, this.#sign(key, segment, tags[segment]))
    await this.#complete(this.#proofs)
    tags.forEach((tag, i) => this.#verify(key, i, tag))
    this.testimony = { key, tags }
  }

  /** Takes a frame of one of the two kinds and passes it on. Throws RingError BAD_FRAME when it is not the next due. */
  onFrame(header: FrameHeader, payload: Uint8Array): void {
    const { position, members } = this.#o
    const isChallenge = header.kind === FRAME_KIND.challenge
    const seen = isChallenge ? this.#challenges : this.#proofs
    const count = members.length
    const others = seen.size - (seen.has(position) ? 1 : 0)
    const due = (position - 1 - others + 2 * count) % count
    const length = isChallenge ? CHALLENGE_BYTES : PROOF_BYTES
    if (others >= count - 1 || header.move !== due || header.length !== length || header.chunk !== 0) {
      const what = `kind ${header.kind} of member ${header.move}, ${header.length} bytes`
      throw new RingError('BAD_FRAME', `frame is ${what}, expected member ${due}, ${length} bytes`)
    }
    const isOwnOut = seen.has(position)
    seen.set(due, payload)
    if (isOwnOut) this.#passOn(header.kind, due, payload)
    this.#wake?.()
  }

  /** Sends this member's own frame of a kind, then those of others that came before it was ready. */
  #begin(kind: number, seen: Map<number, Uint8Array>, own: Uint8Array): void {
    const { position } = this.#o
    this.#send(kind, position, own)
    for (const [member, payload] of seen) this.#passOn(kind, member, payload)
    seen.set(position, own)
  }

  /** Around the ring, up to the one before the member it comes from. */
  #passOn(kind: number, member: number, payload: Uint8Array): void {
    const { position, members } = this.#o
    if (member !== (position + 1) % members.length) this.#send(kind, member, payload)
  }

  #send(kind: number, member: number, payload: Uint8Array): void {
    this.#o.to.first.send({ kind, move: member, round: this.#o.round, chunk: 0 }, payload)
  }

  async #complete(map: ReadonlyMap<number, Uint8Array>): Promise<void> {
    while (map.size < this.#o.members.length) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  #fingerprint(key: Uint8Array, segment: number): Promise<Uint8Array> {
    const { result, members } = this.#o
    const { start, end } = segmentSpan(result.length, members.length, segment)
    const bytes = new Uint8Array(result.buffer, result.byteOffset + start * 4, (end - start) * 4)
    return fingerprint(key, segment, bytes)
  }

  #sign(key: Uint8Array, segment: number, tag: Uint8Array): Uint8Array {
    const { identity, facts, wire } = this.#o
    const message = statement(facts, wire, key, segment, tag)
    return Buffer.concat([
      encodeKeyBinding(identity.binding),
      identity.signEd25519(message),
      identity.signMlDsa87(message),
    ])
  }

  /** Checks the owner's signatures over what this member holds. */
  #verify(key: Uint8Array, segment: number, tag: Uint8Array): void {
    const { members, position, facts, wire } = this.#o
    const owner = segmentOwner(segment, members.length)
    const proof = this.#proofs.get(owner)
    if (owner === position || proof === undefined) return
    const message = statement(facts, wire, key, segment, tag)
    const signatures = proof.subarray(KEY_BINDING_BYTES)
    const signer = signerOf(proof.subarray(0, KEY_BINDING_BYTES))
    const isSigned =
      signer?.peerId === members[owner] &&
      verifyEd25519(signer.ed25519PublicKey, message, signatures.subarray(0, ED25519_SIGNATURE_BYTES)) &&
      verifyMlDsa87(signer.mlDsa87PublicKey, message, signatures.subarray(ED25519_SIGNATURE_BYTES))
    if (isSigned) return
    // No peer is named: whoever altered it is somewhere between the owner and the first member that says this.
    throw new RingError(
      'BAD_SIGNATURE',
      `segment ${segment} is not what its owner, member ${owner} of the view, signed`,
    )
  }
}

function signerOf(binding: Uint8Array): ReturnType<typeof verifyKeyBinding> | null {
  try {
    return verifyKeyBinding(decodeKeyBinding(binding))
  } catch {
    // Not a binding, or one that does not hold: then nobody signed, which the caller says.
    return null
  }
}
