/** Wire types against hand-computed values, and the property that makes all nodes end with the same bits. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { decodeValues, encodedBytes, encodeValues } from '../src/round/encoding.ts'
import { Random } from './sim/random.ts'

describe('bf16', () => {
  it('rounds to nearest even (IEEE 754 upper half; values worked out by hand)', () => {
    // 1 + 2^-8 lies half way between 1 and 1 + 2^-7: even is 1. 1 + 3*2^-8 lies half way above 1 + 2^-7: even is 1 + 2^-6.
    const values = Float32Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -2.5, 0, Infinity, NaN)
    const decoded = decodeValues('bf16', encodeValues('bf16', values), values.length)
    assert.deepEqual([...decoded], [1, 1, 1 + 2 ** -6, -2.5, 0, Infinity, NaN])
  })
})

describe('int8', () => {
  it('keeps the largest value of a block within half a step of a power of two', () => {
    // Largest 100: the scale is the power of two from 100/127 up, 1. So 3.5 rounds to 4 (even) and 2.5 to 2.
    const values = Float32Array.of(100, 3.5, 2.5, -1, 0)
    assert.deepEqual([...decodeValues('int8', encodeValues('int8', values), 5)], [100, 4, 2, -1, 0])
  })

  it('turns a block with a NaN into NaN and leaves its neighbours alone', () => {
    const values = new Float32Array(512).fill(1)
    values[3] = NaN
    const decoded = decodeValues('int8', encodeValues('int8', values), 512)
    assert.ok(Number.isNaN(decoded[255]))
    assert.equal(decoded[256], 1)
  })
})

describe('every wire type', () => {
  for (const wire of ['f32', 'bf16', 'int8'] as const) {
    it(`${wire}: encoding what was decoded gives the same bytes, so forwarding changes nothing`, () => {
      const random = new Random(5)
      for (let run = 0; run < 200; run++) {
        const count = random.below(700)
        const size = 2 ** random.between(-140, 100)
        const values = Float32Array.from({ length: count }, () => random.between(-1, 1) * size)
        const bytes = encodeValues(wire, values).slice()
        assert.equal(bytes.byteLength, encodedBytes(wire, count))
        const again = encodeValues(wire, decodeValues(wire, bytes, count))
        assert.equal(Buffer.compare(bytes, again), 0, `run ${run}, ${count} values of size ${size}`)
      }
    })
  }
})
