/** Every dtype: hand-calculated bytes, error bounds, and refusal of what has no value. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { DeltaDtype } from '@gym-node/wire'
import { BITDELTA_MIN_SCALE_ELEMENTS, DELTA_DTYPES, roundTripTensor } from '@gym-node/wire'
import { packTensor, unpackTensor } from '../src/tensor-codec.ts'
import { bitdeltaLayout, elementCount, packedBytes } from '../src/tensor-layout.ts'
import { normals } from './samples.ts'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const pack = (dtype: DeltaDtype, values: number[], shape = [values.length]): string =>
  hex(packTensor(dtype, shape, Float32Array.from(values), 't'))
const unpack = (dtype: DeltaDtype, packed: string, shape: number[]): number[] => [
  ...unpackTensor(dtype, shape, elementCount(shape, 1e6), new Uint8Array(Buffer.from(packed, 'hex')), 't'),
]

describe('packTensor', () => {
  // Hand-calculated from IEEE 754: 1 = 3f800000; 1/3 rounds to 3eaaaaab, 3555 in binary16 and 3eab in bfloat16.
  it('writes f32, f16 and bf16 as IEEE 754 says, little-endian', () => {
    assert.equal(pack('f32', [1, 1 / 3]), '0000803f' + 'abaaaa3e')
    assert.equal(pack('f16', [1, 1 / 3, -2, 65504, 2 ** -24]), '003c' + '5535' + '00c0' + 'ff7b' + '0100')
    assert.equal(pack('bf16', [1, 1 / 3, -2, 2 ** -133]), '803f' + 'ab3e' + '00c0' + '0100')
  })

  it('rounds 16-bit floats to nearest, ties to even', () => {
    assert.equal(
      pack('bf16', [1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20]),
      '803f' + '823f' + '813f',
    )
    assert.equal(pack('f16', [1 + 2 ** -11, 1 + 3 * 2 ** -11]), '003c' + '023c')
  })

  // max 127 gives scale 1; 0.5 rounds up to 1 and -0.5 to -0 (Math.round); -127 is the least.
  it('writes i8 as a scale for 256 elements, then signed bytes', () => {
    assert.equal(pack('i8', [127, -127, 1, -1, 0.4]), '0000803f' + '7f8101ff00')
    assert.equal(pack('i8', [0, 0]), '00000000' + '0000')
    assert.equal(
      pack(
        'i8',
        Array.from({ length: 257 }, () => 127),
      ).length / 2,
      4 * 2 + 257,
    )
  })

  // One row of 9: mean absolute value (1+3+2+2+2+2+2+2+2)/9 = 2; signs + - + + + + + + | - .
  it('writes bitdelta as mean absolute values, then sign bits from the least', () => {
    assert.equal(pack('bitdelta', [1, -3, 2, 2, 2, 2, 2, 2, -2], [1, 9]), '00000040' + 'fd' + '00')
  })

  it('refuses NaN, infinity, and values that a 16-bit float cannot hold', () => {
    for (const dtype of DELTA_DTYPES) {
      for (const bad of [NaN, Infinity, -Infinity]) {
        for (const at of [0, 3, 4, 6]) {
          const values = new Array<number>(7).fill(1).with(at, bad)
          assert.throws(() => pack(dtype, values), {
            code: 'NON_FINITE',
            message: new RegExp(`element ${at}`),
          })
        }
      }
    }
    assert.throws(() => pack('f16', [65520]), { code: 'NON_FINITE', message: /too large for f16/ })
    assert.throws(() => pack('bf16', [3.4e38]), { code: 'NON_FINITE', message: /too large for bf16/ })
  })
})

describe('unpackTensor', () => {
  it('reads back every binary16 and bfloat16 pattern that is finite', () => {
    for (const [dtype, mask] of [
      ['f16', 0x7c00],
      ['bf16', 0x7f80],
    ] as const) {
      const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i).filter((p) => (p & mask) !== mask)
      const packed = new Uint8Array(patterns.buffer)
      const values = unpackTensor(dtype, [patterns.length], patterns.length, packed, 't')
      assert.equal(hex(packTensor(dtype, [patterns.length], values, 't')), hex(packed))
    }
  })

  it('refuses non-finite numbers wherever they hide', () => {
    assert.throws(() => unpack('f32', '0000c07f', [1]), { code: 'NON_FINITE' })
    assert.throws(() => unpack('f16', '007c', [1]), { code: 'NON_FINITE' })
    assert.throws(() => unpack('bf16', '80ff', [1]), { code: 'NON_FINITE' })
    assert.throws(() => unpack('i8', '0000807f' + '01', [1]), { code: 'NON_FINITE' })
    assert.throws(() => unpack('i8', '0000c07f' + '00', [1]), { code: 'NON_FINITE' })
    assert.throws(() => unpack('i8', 'ffff7f7f' + '7f', [1]), { code: 'NON_FINITE' })
    assert.throws(() => unpack('bitdelta', '0000c07f' + '01', [1]), { code: 'NON_FINITE' })
  })

  it('refuses second spellings of a tensor: -128, negative scales, set padding', () => {
    assert.throws(() => unpack('i8', '0000803f' + '80', [1]), { code: 'BAD_DELTA', message: /-128/ })
    assert.throws(() => unpack('i8', '000080bf' + '01', [1]), { code: 'BAD_DELTA', message: /negative/ })
    assert.throws(() => unpack('i8', '00000080' + '00', [1]), { code: 'BAD_DELTA', message: /negative/ })
    assert.throws(() => unpack('bitdelta', '000080bf' + '01', [1]), {
      code: 'BAD_DELTA',
      message: /negative/,
    })
    assert.throws(() => unpack('bitdelta', '0000803f' + '02', [1]), { code: 'BAD_DELTA', message: /padding/ })
  })
})

describe('what a dtype loses', () => {
  const values = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -1000, max: 1000 }), {
    minLength: 1,
    maxLength: 700,
  })

  it('is nothing for f32, at most half a unit for f16 and bf16, at most half a scale for i8', () => {
    fc.assert(
      fc.property(values, (list) => {
        const input = Float32Array.from(list)
        const round = (dtype: DeltaDtype): Float32Array =>
          roundTripTensor(dtype, [input.length], input).values
        assert.deepEqual(round('f32'), input)
        const [f16, bf16, i8] = [round('f16'), round('bf16'), round('i8')]
        input.forEach((x, i) => {
          assert.ok(Math.abs(x - f16[i]) <= Math.max(Math.abs(x) * 2 ** -11, 2 ** -25))
          assert.ok(Math.abs(x - bf16[i]) <= Math.max(Math.abs(x) * 2 ** -8, 2 ** -134))
          const block = input.subarray(i - (i % 256), i - (i % 256) + 256)
          const scale = block.reduce((max, y) => Math.max(max, Math.abs(y)), 0) / 127
          assert.ok(Math.abs(x - i8[i]) <= 0.5 * scale * (1 + 1e-5) + 1e-43)
        })
      }),
      { seed: 20260105 },
    )
  })

  it('is least for bitdelta at the scale it fits: no other scale of the row gives a smaller squared error', () => {
    const input = normals(512, 8)
    const { values: seen } = roundTripTensor('bitdelta', [1, 512], input)
    const scale = Math.abs(seen[0])
    const error = (s: number): number => input.reduce((sum, x) => sum + (x - (x > 0 ? s : -s)) ** 2, 0)
    for (const factor of [0.5, 0.9, 0.99, 1.01, 1.1, 2]) assert.ok(error(scale * factor) > error(scale))
  })

  it('is for bitdelta of normal values the sqrt(1 - 2/pi) = 0.603 that theory gives, at a fourteenth of bf16', () => {
    const input = normals(1 << 18, 9)
    const { packedBytes: size, relativeError } = roundTripTensor('bitdelta', [1024, 256], input)
    assert.ok(Math.abs(relativeError - 0.603) < 0.02, `${relativeError}`)
    assert.ok((2 * input.length) / size > 14)
  })
})

describe('layouts', () => {
  it('give bitdelta one scale a row, or a group of rows that holds 256 elements', () => {
    assert.deepEqual(bitdeltaLayout([4, 1024], 4096), { rows: 4, columns: 1024, rowsPerScale: 1, scales: 4 })
    assert.deepEqual(bitdeltaLayout([1024, 16], 16384), {
      rows: 1024,
      columns: 16,
      rowsPerScale: 16,
      scales: 64,
    })
    assert.deepEqual(bitdeltaLayout([2, 3, 100], 600), { rows: 6, columns: 100, rowsPerScale: 3, scales: 2 })
    assert.equal(bitdeltaLayout([], 1).scales, 1)
    assert.equal(BITDELTA_MIN_SCALE_ELEMENTS, 256)
  })

  it('keep every adapter shape at ten times under bf16 or better', () => {
    for (const shape of [
      [16, 1024],
      [1024, 16],
      [8, 4096],
      [4096, 8],
      [64, 2048],
      [3072, 64],
    ]) {
      const elements = elementCount(shape, 1e9)
      assert.ok((2 * elements) / packedBytes('bitdelta', shape, elements) > 10, shape.join('x'))
    }
  })

  it('refuse counts that overflow, negative or fractional dimensions and rank 256, but not rank 255', () => {
    assert.equal(elementCount(new Array<number>(255).fill(1), 10), 1)
    assert.equal(elementCount([0, 2 ** 53 - 1, 2 ** 53 - 1], 10), 0)
    assert.throws(() => elementCount(new Array<number>(255).fill(2), 2 ** 51), { code: 'LIMIT_EXCEEDED' })
    assert.throws(() => elementCount(new Array<number>(256).fill(1), 10), { code: 'BAD_DELTA' })
    for (const bad of [-1, 1.5, 2 ** 53, NaN])
      assert.throws(() => elementCount([bad], 10), { code: 'BAD_DELTA' })
  })
})
