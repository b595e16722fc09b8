/** Philox4x32-10 against the known-answer vectors of the authors' Random123 library (tests/kat_vectors). */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { permutation, philox4x32, STREAM, uniform } from '../src/sampling/philox.ts'

type Words4 = [number, number, number, number]
type Words2 = [number, number]

const VECTORS: { counter: Words4; key: Words2; expected: Words4 }[] = [
  {
    counter: [0, 0, 0, 0],
    key: [0, 0],
    expected: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  },
  {
    counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    key: [0xffffffff, 0xffffffff],
    expected: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  },
  {
    counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    key: [0xa4093822, 0x299f31d0],
    expected: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  },
]

describe('philox4x32', () => {
  for (const { counter, key, expected } of VECTORS)
    it(`gives Random123's answer for counter ${counter[0].toString(16)}...`, () => {
      const out = new Uint32Array(4)
      philox4x32(counter, key, out)
      assert.deepEqual([...out], expected)
    })
})

describe('uniform', () => {
  it('stays in [0, 1) with the mean of a uniform variable', () => {
    let sum = 0
    for (let i = 0; i < 4000; i++) {
      const u = uniform(7, STREAM.sample, i, 3, 5)
      assert.ok(u >= 0 && u < 1)
      sum += u
    }
    // Four standard deviations of a mean of 4000: 4 / sqrt(12 * 4000).
    assert.ok(Math.abs(sum / 4000 - 0.5) < 0.0183)
  })

  it('depends on every coordinate', () => {
    const base = uniform(1, STREAM.sample, 2, 3, 4)
    const others = [
      uniform(2, STREAM.sample, 2, 3, 4),
      uniform(1, STREAM.evaluate, 2, 3, 4),
      uniform(1, STREAM.sample, 3, 3, 4),
      uniform(1, STREAM.sample, 2, 4, 4),
      uniform(1, STREAM.sample, 2, 3, 5),
      uniform(1 + 2 ** 40, STREAM.sample, 2, 3, 4),
    ]
    assert.equal(new Set([base, ...others]).size, 7)
  })
})

describe('permutation', () => {
  it('holds every index once and changes with the epoch', () => {
    const first = permutation(100, 5, STREAM.shuffle, 0)
    const second = permutation(100, 5, STREAM.shuffle, 1)
    assert.deepEqual(
      [...first].sort((a, b) => a - b),
      Array.from({ length: 100 }, (_, i) => i),
    )
    assert.notDeepEqual(first, second)
    assert.deepEqual(permutation(100, 5, STREAM.shuffle, 0), first)
  })
})
