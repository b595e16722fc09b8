/** Whom differing claims speak against: worked out by hand for rings of four. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import {
  encodeClaim,
  findDisagreement,
  isStatementOf,
  openClaim,
  statementBytes,
  type Claim,
} from '../src/round/claims.ts'
import { identityOf } from './rig.ts'

const bytes = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value)
const TAGS = [10, 11, 12, 13]

/** A claim as honest members make it, with the tags of some segments replaced. */
function claim(other: Partial<Record<number, number>> = {}, key = 7, about = 1): Claim {
  const tags = TAGS.map((tag, segment) => bytes(16, other[segment] ?? tag))
  return { about: bytes(32, about), key: bytes(32, key), tags }
}

const pairsOf = (claims: readonly Claim[]): unknown => findDisagreement(claims)?.pairs

describe('claims of four members', () => {
  it('that are the same speak against nobody', () => {
    assert.equal(findDisagreement([claim(), claim(), claim(), claim()]), null)
  })

  it('name the two neighbours between which a segment changed', () => {
    // Segment 2 is finished by member 1 and goes 1, 2, 3, 0. From 3 on it is another one.
    assert.deepEqual(pairsOf([claim({ 2: 99 }), claim(), claim(), claim({ 2: 99 })]), [[2, 3]])
    // Member 3 passes on what is right and claims something else: it is in every pair.
    assert.deepEqual(pairsOf([claim(), claim(), claim(), claim({ 2: 99 })]), [
      [2, 3],
      [3, 0],
    ])
  })

  it('do not compare the end of a way with its beginning', () => {
    // Segment 2 ends at member 0: that member 1, its owner, holds another one is no pair of neighbours on its way.
    assert.deepEqual(pairsOf([claim({ 2: 99 }), claim(), claim(), claim()]), [[3, 0]])
  })

  it('name the owner beside its successor when it sent something else than it signed', () => {
    assert.deepEqual(pairsOf([claim(), claim({ 2: 99 }), claim(), claim()]), [[1, 2]])
  })

  it('name the two neighbours between which challenges changed, before any segment', () => {
    assert.deepEqual(pairsOf([claim({}, 7), claim({ 1: 5 }, 8), claim({ 1: 5 }, 8), claim({}, 7)]), [
      [0, 1],
      [2, 3],
    ])
  })

  it('name nobody when members were told different things before the round', () => {
    assert.deepEqual(pairsOf([claim(), claim({}, 8, 2), claim(), claim()]), [])
  })
})

describe('a claim on its way', () => {
  const scope = { ringId: 'ab', epoch: 3, round: 9 }
  const identity = identityOf(1)
  const payload = new Uint8Array(encodeClaim(identity, scope, claim()))

  it('reads back as it was written, and has the length that the frame must have', () => {
    assert.equal(payload.byteLength, statementBytes('claim', 4))
    assert.ok(isStatementOf(identity.peerId, 'claim', scope, payload))
    const read = openClaim(identity.peerId, scope, 4, payload)
    assert.deepEqual(
      read?.tags.map((tag) => [...tag]),
      claim().tags.map((tag) => [...tag]),
    )
    // 256 members, the most a view may have, fit the least limit of a frame's payload.
    assert.ok(statementBytes('claim', 256) <= 16_384)
  })

  it('belongs to one member, epoch, round and kind, bit for bit', () => {
    const { peerId } = identity
    assert.ok(!isStatementOf(identityOf(2).peerId, 'claim', scope, payload))
    assert.ok(!isStatementOf(peerId, 'claim', { ...scope, round: 10 }, payload))
    assert.ok(!isStatementOf(peerId, 'claim', { ...scope, epoch: 4 }, payload))
    assert.ok(!isStatementOf(peerId, 'challenge', scope, payload))
    for (const at of [0, 40, 70, 500, 9_000, payload.byteLength - 1]) {
      const other = payload.map((byte, i) => (i === at ? byte ^ 4 : byte))
      assert.ok(!isStatementOf(peerId, 'claim', scope, other), `byte ${at}`)
    }
  })

  it('is nobody’s under another ML-DSA-87 key', () => {
    assert.equal(openClaim(identityOf(2).peerId, scope, 4, payload), null)
    assert.equal(openClaim(identity.peerId, { ...scope, round: 10 }, 4, payload), null)
  })
})
