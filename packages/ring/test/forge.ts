/** Votes as tests cast them: for whomever the story needs, hostile or honest. */
import { certify } from '../src/view/certificate.ts'
import type { Ballot, Proven, ViewValue } from '../src/view/messages.ts'
import { voteBytes, type Question, type VoteKind } from '../src/view/vote.ts'
import { simSigner } from './sim/signer.ts'

/** What is voted on, and by default how: acceptance of `value` in the first ballot of its first voter. */
export interface Forgery {
  readonly kind?: VoteKind
  readonly job?: string
  readonly ballot?: Ballot
}

/** A view with the signed votes of `voters`; those that are no member of `before` have no place in it. */
export function provenBy(
  voters: readonly string[],
  before: ViewValue | null,
  value: ViewValue,
  { kind = 'accept', job = 'rig', ballot = { n: 1, peer: voters[0] ?? '' } }: Forgery = {},
): Proven {
  const question: Question = { kind, job, before, ballot, value }
  const votes = new Map(voters.map((peer) => [peer, simSigner(peer).sign(voteBytes(question))]))
  return { value, certificate: certify(question, votes) }
}
