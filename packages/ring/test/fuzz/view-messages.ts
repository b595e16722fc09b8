/** Seeded messages of the view protocol that fit their schema, about a few peers, rings and rounds that may not be. */
import type {
  Ballot,
  Certificate,
  Mark,
  Member,
  Proven,
  Start,
  StatusMessage,
  Turn,
  ViewMessage,
  ViewValue,
} from '../../src/view/messages.ts'
import type { Random } from '../sim/random.ts'

const PEERS = ['a', 'b', 'c', 'd', 'e']
const RINGS = ['aa', 'bb']
const HASHES = ['00', '11', 'ff']

const pick = (random: Random, values: readonly string[]): string => values[random.below(values.length)] ?? ''

/** A peer that messages speak of. */
export const anyPeer = (random: Random): string => pick(random, PEERS)

const small = (random: Random): number => (random.chance(0.02) ? 0xffff_ffff : random.below(6))
const mark = (random: Random): Mark => ({ round: small(random), hash: pick(random, HASHES) })
const maybe = <T>(random: Random, value: T): T | null => (random.chance(0.5) ? value : null)
const ballot = (random: Random): Ballot => ({ n: small(random), peer: anyPeer(random) })
const member = (random: Random): Member => ({
  peer: anyPeer(random),
  boot: `${anyPeer(random)}.${random.below(3)}`,
})
const start = (random: Random): Start => ({
  round: small(random),
  result: maybe(random, pick(random, HASHES)),
})

function turn(random: Random): Turn {
  return {
    epoch: small(random),
    round: small(random),
    length: small(random),
    weight: small(random),
    wire: 'f32',
    state: pick(random, HASHES),
    commitment: null,
    done: maybe(random, pick(random, HASHES)),
    prepared: random.chance(0.5),
  }
}

function value(random: Random): ViewValue {
  const members = Array.from({ length: 1 + random.below(5) }, () => member(random))
  return { ringId: pick(random, RINGS), epoch: Math.max(1, small(random)), members, start: start(random) }
}

const signature = (random: Random): string => Buffer.alloc(64, random.below(256)).toString('base64')

function certificate(random: Random): Certificate {
  const voters = Array.from({ length: random.below(5) }, () => random.below(6))
  const signatures = Buffer.alloc(64 * voters.length, random.below(256)).toString('base64')
  return { ballot: ballot(random), voters, signatures }
}

/** A view with votes, right or wrong as the machine's signer has it. */
const proven = (random: Random): Proven => ({ value: value(random), certificate: certificate(random) })

function status(random: Random): StatusMessage {
  return {
    t: 'status',
    seq: small(random),
    boot: `${anyPeer(random)}.${random.below(3)}`,
    ringId: maybe(random, pick(random, RINGS)),
    epoch: small(random),
    viewId: maybe(random, pick(random, HASHES)),
    active: random.chance(0.7),
    leaving: random.chance(0.1),
    state: mark(random),
    committed: maybe(random, mark(random)),
    suspects: random.chance(0.3) ? [anyPeer(random)] : [],
    abandoned: random.chance(0.2),
    turn: maybe(random, turn(random)),
  }
}

/** One message of any kind. */
export function anyViewMessage(random: Random): ViewMessage {
  const scope = { ringId: pick(random, RINGS), epoch: small(random) }
  switch (random.below(12)) {
    case 0:
      return { t: 'genesis', value: value(random) }
    case 1:
      return { t: 'genesis-ack', ringId: pick(random, RINGS), signature: signature(random) }
    case 2:
      return { t: 'genesis-nack', ringId: pick(random, RINGS) }
    case 3:
      return { t: 'prepare', ...scope, ballot: ballot(random) }
    case 4:
      return {
        t: 'promise',
        ...scope,
        ballot: ballot(random),
        accepted: maybe(random, proven(random)),
        prepared: maybe(random, mark(random)),
        held: maybe(random, mark(random)),
        reached: small(random),
        start: start(random),
      }
    case 5:
      return { t: 'nack', ...scope, promised: ballot(random) }
    case 6:
      return { t: 'accept', ...scope, ...proven(random) }
    case 7:
      return { t: 'accepted', ...scope, ballot: ballot(random), signature: signature(random) }
    case 8:
      return { t: 'decided', path: Array.from({ length: 1 + random.below(3) }, () => proven(random)) }
    case 9:
      return {
        t: 'propose',
        ...scope,
        ballot: ballot(random),
        value: value(random),
        endorsement: maybe(random, certificate(random)),
      }
    case 10:
      return { t: 'endorsed', ...scope, ballot: ballot(random), signature: signature(random) }
    default:
      return status(random)
  }
}
