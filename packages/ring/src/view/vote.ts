/**
 * Votes on views: what exactly a member signs, so that its word can be shown to others and means nothing else. Pure but
 * for the signer, which is handed in.
 */
import { createHash } from 'node:crypto'
import type { Ballot, ViewValue } from './messages.ts'

/** Bytes of one signature (RFC 8032). */
export const SIGNATURE_BYTES = 64

/** What every signed vote begins with: nothing else that this project or libp2p signs does. */
const VOTE_LABEL = 'gym-node ring vote v1\0'

/** Signs as this node and checks what others have signed, by peer id. Deterministic. */
export interface VoteSigner {
  /** 64 bytes */
  sign(message: Uint8Array): Uint8Array
  /** false for anything that is not that peer's signature of this message; never throws */
  verify(peer: string, message: Uint8Array, signature: Uint8Array): boolean
}

/**
 * `genesis`: I found this ring. `endorse`: by what I see myself this may be the next view. `accept`: a quorum has endorsed
 * it, and I accept it (Paxos).
 */
export type VoteKind = 'genesis' | 'endorse' | 'accept'

/** What a vote is about. `before`: the view that is left, null for genesis. */
export interface Question {
  readonly kind: VoteKind
  readonly job: string
  readonly before: ViewValue | null
  readonly ballot: Ballot
  readonly value: ViewValue
}

/** The bytes that are signed: the same text for nobody but the same question. */
export function voteBytes({ kind, job, before, ballot, value }: Question): Uint8Array {
  const left = before === null ? '' : valueHash(before)
  const facts = [kind, job, value.ringId, value.epoch, left, ballot.n, ballot.peer, valueHash(value)]
  return new TextEncoder().encode(VOTE_LABEL + JSON.stringify(facts))
}

/** Names once computed: values never change, and every status carries the name of one. */
const hashes = new WeakMap<ViewValue, string>()

/** SHA3-256 over a view with members, order and start, in hex. */
export function valueHash(value: ViewValue): string {
  const known = hashes.get(value)
  if (known !== undefined) return known
  const members = value.members.map(({ peer, boot }) => [peer, boot])
  const start = [value.start.round, value.start.result]
  const text = JSON.stringify([value.ringId, value.epoch, members, start])
  const hash = createHash('sha3-256').update(text).digest('hex')
  hashes.set(value, hash)
  return hash
}

/** A short name of a view, for statuses. */
export function viewId(value: ViewValue): string {
  return valueHash(value).slice(0, 32)
}
