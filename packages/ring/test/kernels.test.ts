/** The WebAssembly arithmetic against plain TypeScript, hand-computed values, and its own source text. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { assembleKernels } from '../scripts/build-kernels.ts'
import { KERNELS_BASE64 } from '../src/kernels/kernels-wasm.ts'
import { ChunkMath, encodedBytes } from '../src/kernels/chunk-math.ts'
import type { WireType } from '../src/index.ts'
import { bitsOf, decodeInt8, encodeInt8, floatOf, fromBf16, toBf16 } from './reference/encoding.ts'
import { Random } from './sim/random.ts'

const MAX = 1200
const WIRES = ['f32', 'bf16', 'int8'] as const

/** Encoded and decoded once by the kernels. */
function roundTrip(wire: WireType, values: Float32Array): Float32Array {
  const math = new ChunkMath(wire, MAX)
  math.load(values, 1, null)
  return math.decode(math.encode(values.length).slice(), values.length).slice()
}

/** Ordinary values of one magnitude, with zeros, subnormals, infinities and NaNs now and then. */
function anyValues(random: Random, count: number): Float32Array {
  const size = 2 ** random.between(-140, 100)
  return Float32Array.from({ length: count }, () => {
    const odd = random.below(400)
    if (odd === 0) return floatOf(random.below(2 ** 32))
    if (odd === 1) return -0
    return random.between(-1, 1) * size
  })
}

const bytesOf = (values: Float32Array): Buffer =>
  Buffer.from(values.buffer, values.byteOffset, values.byteLength)

it('the committed module is what its text assembles to', async () => {
  assert.equal(KERNELS_BASE64, Buffer.from(await assembleKernels()).toString('base64'))
})

describe('bf16', () => {
  it('rounds to nearest even (IEEE 754 upper half; values worked out by hand)', () => {
    // 1 + 2^-8 lies half way between 1 and 1 + 2^-7: even is 1. 1 + 3*2^-8 lies half way above 1 + 2^-7: even is 1 + 2^-6.
    const values = Float32Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -2.5, 0, Infinity, NaN)
    assert.deepEqual([...roundTrip('bf16', values)], [1, 1, 1 + 2 ** -6, -2.5, 0, Infinity, NaN])
  })

  it('has the reference bits for any float32 and any length', () => {
    const random = new Random(11)
    const math = new ChunkMath('bf16', MAX)
    for (let run = 0; run < 100; run++) {
      const values = anyValues(random, random.below(MAX))
      math.load(values, 1, null)
      const encoded = math.encode(values.length).slice()
      const halves = Uint16Array.from(values, toBf16)
      assert.deepEqual(encoded, new Uint8Array(halves.buffer), `run ${run}`)
      assert.deepEqual([...math.decode(encoded, values.length)], [...halves].map(fromBf16), `run ${run}`)
    }
  })
})

describe('int8', () => {
  it('keeps the largest value of a block within half a step of a power of two', () => {
    // Largest 100: the scale is the power of two from 100/127 up, 1. So 3.5 rounds to 4 (even) and 2.5 to 2.
    assert.deepEqual([...roundTrip('int8', Float32Array.of(100, 3.5, 2.5, -1, 0))], [100, 4, 2, -1, 0])
  })

  it('turns a block with a NaN into NaN and leaves its neighbours alone', () => {
    const values = new Float32Array(512).fill(1)
    values[3] = NaN
    const decoded = roundTrip('int8', values)
    assert.ok(Number.isNaN(decoded[255]))
    assert.equal(decoded[256], 1)
  })

  it('has the reference bytes for any float32 and any length', () => {
    const random = new Random(12)
    const math = new ChunkMath('int8', MAX)
    for (let run = 0; run < 100; run++) {
      const values = anyValues(random, random.below(MAX))
      math.load(values, 1, null)
      const encoded = math.encode(values.length).slice()
      assert.equal(encoded.byteLength, encodedBytes('int8', values.length))
      assert.deepEqual(encoded, encodeInt8(values), `run ${run}`)
      const decoded = math.decode(encoded, values.length)
      assert.deepEqual([...decoded], [...decodeInt8(encoded, values.length)], `run ${run}`)
    }
  })
})

describe('every wire type', () => {
  for (const wire of WIRES) {
    it(`${wire}: encoding what was decoded gives the same bytes, so forwarding changes nothing`, () => {
      const random = new Random(5)
      const math = new ChunkMath(wire, MAX)
      for (let run = 0; run < 100; run++) {
        const count = random.below(700)
        const size = 2 ** random.between(-140, 100)
        const values = Float32Array.from({ length: count }, () => random.between(-1, 1) * size)
        math.load(values, 1, null)
        const bytes = math.encode(count).slice()
        assert.equal(bytes.byteLength, encodedBytes(wire, count))
        const decoded = math.decode(bytes, count).slice()
        math.load(decoded, 1, null)
        assert.deepEqual(math.encode(count).slice(), bytes, `run ${run}, ${count} values of size ${size}`)
        math.settle(count)
        assert.deepEqual(bytesOf(math.values(count)), bytesOf(decoded), 'the owner settles on the same bits')
      }
    })
  }

  it('adds, weighs and divides as float32 arithmetic element by element does', () => {
    const random = new Random(7)
    for (const wire of WIRES) {
      const math = new ChunkMath(wire, MAX)
      for (let run = 0; run < 40; run++) {
        const count = random.below(MAX)
        const draw = (): Float32Array => Float32Array.from({ length: count }, () => random.between(-9, 9))
        const [own, came] = [draw(), draw()]
        const residual = run % 2 === 0 ? null : Uint16Array.from(draw(), toBf16)
        const weight = Math.fround(random.between(0, 3))
        const total = [4, 3, 0, 0.7][run % 4] ?? 1
        math.load(came, 1, null)
        const payload = math.encode(count).slice()
        const part = math.decode(payload, count).slice()
        math.loadAndAdd(own, weight, residual, payload)
        math.divide(count, total)
        const expected = own.map((x, i) => {
          const weighed = Math.fround(x * weight)
          const mine = residual === null ? weighed : Math.fround(weighed + fromBf16(residual[i]))
          return total === 0 ? 0 : Math.fround(part[i] + mine) / Math.fround(total)
        })
        assert.deepEqual(bytesOf(math.values(count)), bytesOf(expected), `${wire}, run ${run}`)
      }
    }
  })

  it('int8 keeps what rounding loses, in its unit, and nothing of what is not finite', () => {
    const random = new Random(9)
    const math = new ChunkMath('int8', MAX)
    for (let run = 0; run < 60; run++) {
      const values = anyValues(random, random.below(MAX))
      math.load(values, 1, null)
      const residual = new Uint16Array(values.length)
      const bytes = math.encodeKeeping(values.length, residual, 3).slice()
      math.load(values, 1, null)
      assert.deepEqual(math.encode(values.length).slice(), bytes, 'the same bytes as without')
      const decoded = math.decode(bytes, values.length)
      const expected = Uint16Array.from(values, (x, i) => {
        const lost = Math.fround(Math.fround(x - decoded[i]) * 3)
        return Math.abs(lost) < 3e38 ? (bitsOf(lost) + 0x8000) >>> 16 : 0
      })
      assert.deepEqual(residual, expected, `run ${run}`)
    }
  })
})
