/**
 * A quorum of signed votes that can be shown to anybody, and what a node needs to be shown before it believes in a view:
 * no view is ever adopted on somebody's word.
 */
import { createHash } from 'node:crypto'
import type { MachineState } from './state.ts'
import { votesNeeded } from './state.ts'
import type { Ballot, Certificate, Proven, ViewValue } from './messages.ts'
import { SIGNATURE_BYTES, voteBytes, type Question, type VoteKind } from './vote.ts'

/** Certificates that were checked are remembered by name, a few: the same one comes from many peers. */
const VERIFIED_REMEMBERED = 16

/** Whose votes count for a question: the members of the view that is left; for a genesis, those it names. */
function voters(question: Pick<Question, 'before' | 'value'>): readonly string[] {
  return (question.before ?? question.value).members.map(({ peer }) => peer)
}

/** The certificate of votes that were checked one by one as they came. */
export function certify(question: Question, votes: ReadonlyMap<string, Uint8Array>): Certificate {
  const places: number[] = []
  const signatures: Uint8Array[] = []
  voters(question).forEach((peer, place) => {
    const signature = votes.get(peer)
    if (signature === undefined) return
    places.push(place)
    signatures.push(signature)
  })
  return {
    ballot: question.ballot,
    voters: places,
    signatures: Buffer.concat(signatures).toString('base64'),
  }
}

/**
 * Whether a quorum of those who may has voted so. Members are named by their places in ascending order, so that nobody
 * counts twice and nobody else at all; one wrong signature and the whole is refused.
 */
export function isCertified(
  s: MachineState,
  kind: VoteKind,
  before: ViewValue | null,
  value: ViewValue,
  certificate: Certificate,
): boolean {
  const { signer, quorum, job } = s.options
  const peers = voters({ before, value })
  const needed = before === null ? peers.length : votesNeeded(quorum, peers.length)
  const { voters: places, ballot } = certificate
  const isAscending = places.every((place, i) => place < peers.length && (i === 0 || place > places[i - 1]))
  if (places.length < needed || !isAscending) return false
  const signatures = Buffer.from(certificate.signatures, 'base64')
  if (signatures.byteLength !== places.length * SIGNATURE_BYTES) return false
  const message = voteBytes({ kind, job, before, ballot, value })
  const name = createHash('sha3-256').update(message).update(places.join()).update(signatures).digest('hex')
  if (s.verified.has(name)) return true
  const isRight = places.every((place, i) => {
    const signature = signatures.subarray(i * SIGNATURE_BYTES, (i + 1) * SIGNATURE_BYTES)
    return signer.verify(peers[place], message, signature)
  })
  if (isRight) remember(s.verified, name)
  return isRight
}

/** Whether `peer` has signed this. */
export function isVote(s: MachineState, question: Question, peer: string, signature: Uint8Array): boolean {
  if (signature.byteLength !== SIGNATURE_BYTES) return false
  return s.options.signer.verify(peer, voteBytes(question), signature)
}

/** This node's signature. */
export function signVote(s: MachineState, question: Question): Uint8Array {
  return s.options.signer.sign(voteBytes(question))
}

/**
 * Whether `path` leads from a view that this node is in to the last one of it. Each step is certified by the members of
 * the view before; where views are missing, a view counts that a quorum of the members of the trusted one have left by
 * their signed votes, as then an honest one of them was in it (the skipping verification of Tendermint's light client,
 * Braithwaite et al. 2020, with a quorum as trust level).
 */
export function isProvenFrom(s: MachineState, known: ViewValue, path: readonly Proven[]): boolean {
  let trusted = known
  let before: ViewValue | null = null
  for (const { value, certificate } of path) {
    if (value.ringId !== known.ringId) return false
    if (value.epoch > trusted.epoch) {
      const isNext = value.epoch === trusted.epoch + 1 && isStep(s, trusted, value, certificate)
      if (isNext || (before !== null && leaps(s, trusted, before, { value, certificate }))) trusted = value
    }
    before = value
  }
  return trusted === path.at(-1)?.value
}

/**
 * Whether the last view of `path` is certified by the members of the one before, or by its founders: all that somebody
 * can check who knows nothing of a ring. It shows that those members exist and agreed, not that they are the right ones.
 */
export function isConsistent(s: MachineState, path: readonly Proven[]): boolean {
  const last = path.at(-1)
  if (last === undefined) return false
  if (last.value.epoch === 1) {
    const { n, peer } = genesisBallot(last.value)
    const { ballot } = last.certificate
    const isFounding = ballot.n === n && ballot.peer === peer
    return isFounding && isCertified(s, 'genesis', null, last.value, last.certificate)
  }
  const before = path.at(-2)?.value
  return before !== undefined && isStep(s, before, last.value, last.certificate)
}

function leaps(s: MachineState, trusted: ViewValue, before: ViewValue, step: Proven): boolean {
  const known = new Set(trusted.members.map(({ peer }) => peer))
  const seen = step.certificate.voters.filter((place) => known.has(before.members[place]?.peer ?? ''))
  if (seen.length < votesNeeded(s.options.quorum, trusted.members.length)) return false
  return isStep(s, before, step.value, step.certificate)
}

/** Whether `value` is the view after `before` by the votes of its members. */
function isStep(s: MachineState, before: ViewValue, value: ViewValue, certificate: Certificate): boolean {
  if (value.ringId !== before.ringId || value.epoch !== before.epoch + 1) return false
  return isCertified(s, 'accept', before, value, certificate)
}

function remember(verified: Set<string>, name: string): void {
  verified.add(name)
  const [oldest] = verified
  if (verified.size > VERIFIED_REMEMBERED && oldest !== undefined) verified.delete(oldest)
}

/** A founding has no rival ballots: all its votes name this one. */
export function genesisBallot(value: ViewValue): Ballot {
  return { n: 0, peer: value.members[0].peer }
}
