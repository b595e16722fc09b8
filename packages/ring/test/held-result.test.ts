import { it } from 'node:test'
import assert from 'node:assert/strict'
import { decodeHeld, encodeHeld } from '../src/round/held-result.ts'
import { RingError } from '../src/index.ts'

const view = { ringId: 'ab', epoch: 3, members: ['p', 'q'] }
const mean = Float32Array.of(1, -2.5, 3e-20)
const contributions = [
  { peerId: 'p', weight: 0.5, commitment: null },
  { peerId: 'q', weight: 1.5, commitment: new Uint8Array(32).fill(9) },
]
const held = { round: 7, view, mean, totalWeight: 2, contributions, hash: new Uint8Array(32).fill(5) }

it('a stored result comes back the same, also out of a Node buffer', () => {
  assert.deepEqual(decodeHeld(Buffer.from(encodeHeld(held))), held)
})

it('a stored result with one changed bit, in its values or in its name, is refused', () => {
  const clean = encodeHeld(held)
  for (const at of [clean.length - 1, clean.length - 12, Buffer.from(clean).indexOf('0505')]) {
    const bytes = clean.slice()
    bytes[at] = (bytes[at] ?? 0) ^ 1
    assert.throws(
      () => decodeHeld(bytes),
      (error) => error instanceof RingError && error.code === 'BAD_STORE',
    )
  }
})
