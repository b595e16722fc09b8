/** The distance to what rounds to given values: zero for honest files, the size of the change for others. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { DELTA_DTYPES, roundTripTensor, squaredRoundingDistance } from '@gym-node/wire'
import { normals } from './samples.ts'

const SHAPE = [40, 50] as const
const COUNT = 2000
const norm = (v: Float32Array): number => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0))

function distance(dtype: (typeof DELTA_DTYPES)[number], values: Float32Array, stored: Float32Array): number {
  return Math.sqrt(squaredRoundingDistance(dtype, [COUNT], values, stored)) / norm(values)
}

describe('squaredRoundingDistance', () => {
  for (const dtype of DELTA_DTYPES) {
    it(`is nothing for what ${dtype} makes of a vector, over magnitudes`, () => {
      for (const size of [1, 1e-3, 1e-6]) {
        const values = normals(COUNT, 11).map((x) => x * size)
        const seen = distance(dtype, values, roundTripTensor(dtype, [COUNT], values).values)
        assert.ok(seen < 2e-7, `${seen} at ${size}`)
      }
    })

    it(`allows a stranger's last bits no more than themselves in ${dtype}`, () => {
      const values = normals(COUNT, 12)
      const stored = roundTripTensor(dtype, [COUNT], values).values
      const bits = normals(COUNT, 13)
      const elsewhere = values.map((x, i) => x + 1e-4 * (bits[i] ?? 0))
      const seen = distance(dtype, elsewhere, stored)
      assert.ok(seen < 1.2e-4, `${seen}`)
    })

    it(`sees a file of ${dtype} that is scaled by 1.1, or that stores another vector`, () => {
      const values = normals(COUNT, 14)
      const scaled = roundTripTensor(
        dtype,
        [COUNT],
        values.map((x) => 1.1 * x),
      ).values
      const seen = distance(dtype, values, scaled)
      assert.ok(seen > 0.05, `${seen}`)
      const other = roundTripTensor(dtype, [COUNT], normals(COUNT, 15)).values
      assert.ok(distance(dtype, values, other) > 0.5)
    })

    it(`sees noise of 5 % in a file of ${dtype}`, () => {
      const values = normals(COUNT, 16)
      const noise = normals(COUNT, 17)
      const noisy = values.map((x, i) => x + 0.05 * (noise[i] ?? 0))
      const seen = distance(dtype, values, roundTripTensor(dtype, [COUNT], noisy).values)
      assert.ok(seen > 3e-3, `${seen}`)
    })
  }

  it('is what a hand calculation gives', () => {
    // f16 at 1: a step above 1 is 2^-10, half of it is free.
    const [value, one] = [Float32Array.of(1 + 2 ** -9), Float32Array.of(1)]
    assert.equal(squaredRoundingDistance('f16', [1], value, one), (2 ** -9 - 2 ** -11) ** 2)
    // bf16 at 1: half a step is 2^-8.
    assert.equal(
      squaredRoundingDistance('bf16', [1], Float32Array.of(1 + 2 ** -6), one),
      (2 ** -6 - 2 ** -8) ** 2,
    )
    // bitdelta: 3 and -1 store as +-2; 3 and 1 have the wrong sign at 1, and then a mean of 1.5 under the scale of 2.
    const stored = Float32Array.of(2, -2)
    assert.equal(squaredRoundingDistance('bitdelta', [1, 2], Float32Array.of(3, -1), stored), 0)
    assert.equal(squaredRoundingDistance('bitdelta', [1, 2], Float32Array.of(3, 1), stored), 1 + 2 * 0.5 ** 2)
    // i8: 127 and 10 store as they are; 130 is 3 over the largest, 10.25 within half a step.
    const quants = Float32Array.of(127, 10)
    assert.equal(squaredRoundingDistance('i8', [2], Float32Array.of(130, 10.25), quants), 9)
  })

  it('refuses unequal lengths', () => {
    assert.throws(() => squaredRoundingDistance('f32', [...SHAPE], normals(3, 1), normals(4, 1)), {
      code: 'BAD_ARGUMENT',
    })
  })
})
