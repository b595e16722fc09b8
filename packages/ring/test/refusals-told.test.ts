/** Refusals are all counted, and not all told. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { RingError } from '../src/index.ts'
import { Refusals, REFUSALS_AT_ONCE, REFUSALS_PER_SECOND } from '../src/refusals.ts'

it('of a flood of refusals of one kind few are told, with how many were not; other kinds are told as ever', () => {
  const refusals = new Refusals()
  const flood = new RingError('BAD_MESSAGE', 'garbage', { peer: 'p' })
  const told = Array.from({ length: 1000 }, () => refusals.note(flood, 0)).filter((held) => held !== null)
  assert.deepEqual(told, Array<number>(REFUSALS_AT_ONCE).fill(0))
  assert.equal(refusals.counts.BAD_MESSAGE, 1000)
  assert.equal(refusals.note(new RingError('BAD_SIGNATURE', 'altered', { peer: 'p' }), 0), 0)
  assert.equal(refusals.note(flood, 1000 / REFUSALS_PER_SECOND), 1000 - REFUSALS_AT_ONCE)
  assert.equal(refusals.note(flood, 1000 / REFUSALS_PER_SECOND), null)
})

it('what no peer has caused is always told', () => {
  const refusals = new Refusals()
  const broken = new RingError('BAD_STORE', 'disk full')
  for (let i = 0; i < 100; i++) assert.equal(refusals.note(broken, 0), 0)
})
