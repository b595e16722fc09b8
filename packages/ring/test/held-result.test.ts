import { it } from 'node:test'
import assert from 'node:assert/strict'
import { decodeHeld, encodeHeld, nameResult } from '../src/round/held-result.ts'
import { RingError } from '../src/index.ts'

const view = { ringId: 'ab', epoch: 3, members: ['p', 'q'] }
const mean = Float32Array.of(1, -2.5, 3e-20)
const contributions = [
  { peerId: 'p', weight: 0.5, commitment: null },
  { peerId: 'q', weight: 1.5, commitment: new Uint8Array(32).fill(9) },
]
const result = { round: 7, view, mean, totalWeight: 2, contributions }
const held = { ...result, hash: nameResult(result) }

it('a stored result comes back the same, also out of a Node buffer', () => {
  assert.deepEqual(decodeHeld(Buffer.from(encodeHeld(held))), held)
})

it('a stored result with one changed bit is refused', () => {
  const bytes = encodeHeld(held)
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
  assert.throws(
    () => decodeHeld(bytes),
    (error) => error instanceof RingError && error.code === 'BAD_STORE',
  )
})

it('every single bit of a long result is in its name', () => {
  // Over the digest's step of 8 MiB, so that the second call counts too.
  const long = { ...result, mean: new Float32Array(2 ** 21 + 5) }
  const name = nameResult(long)
  for (const k of [0, 2 ** 21 - 1, 2 ** 21, 2 ** 21 + 4]) {
    const changed = { ...long, mean: long.mean.slice() }
    changed.mean[k] = 1e-45
    assert.notDeepEqual(nameResult(changed), name, `element ${k}`)
  }
})
