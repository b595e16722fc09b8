/** The WebAssembly arithmetic against plain TypeScript, hand-computed values, and its own source text. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { assembleKernels } from '../scripts/build-kernels.ts'
import { KERNELS_BASE64 } from '../src/kernels/kernels-wasm.ts'
import { ChunkMath, type Part } from '../src/kernels/chunk-math.ts'
import { ChunkMemory, encodedBytes } from '../src/kernels/chunk-memory.ts'
import type { WireType } from '../src/index.ts'
import { bitsOf, decodeInt8, encodeInt8, floatOf, fromBf16, toBf16 } from './reference/encoding.ts'
import { Random } from './sim/random.ts'

const MAX = 1200
const WIRES = ['f32', 'bf16', 'int8'] as const

/** The arithmetic of a wire type, and memory that it works on in place. */
function mathOf(wire: WireType, lendable = 0): { math: ChunkMath; memory: ChunkMemory } {
  const memory = new ChunkMemory(MAX, lendable)
  return { memory, math: new ChunkMath(wire, memory) }
}

/** The wire's bytes of `values`, element by element. */
function encodeByHand(wire: WireType, values: Float32Array): Uint8Array {
  if (wire === 'int8') return encodeInt8(values)
  return wire === 'f32' ? bytesOf(values) : bytesOf(Uint16Array.from(values, toBf16))
}

function decodeByHand(wire: WireType, bytes: Uint8Array, count: number): Float32Array {
  if (wire === 'int8') return decodeInt8(bytes, count)
  const whole = bytes.slice().buffer
  return wire === 'f32' ? new Float32Array(whole) : Float32Array.from(new Uint16Array(whole), fromBf16)
}

function decode(math: ChunkMath, bytes: Uint8Array, count: number): Float32Array {
  const values = new Float32Array(count)
  math.decode(bytes, values)
  return values
}

function roundTrip(wire: WireType, values: Float32Array): Float32Array {
  const { math } = mathOf(wire)
  return decode(math, math.encode(values).slice(), values.length)
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

const bytesOf = (values: Float32Array | Uint16Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength)

it('the committed module is what its text assembles to', async () => {
  assert.equal(KERNELS_BASE64, Buffer.from(await assembleKernels()).toString('base64'))
})

describe('bf16', () => {
  it('rounds to nearest even (IEEE 754 upper half; values worked out by hand)', () => {
    // 1 + 2^-8 lies half way between 1 and 1 + 2^-7: even is 1. 1 + 3*2^-8 lies half way above 1 + 2^-7: even is 1 + 2^-6.
    const values = Float32Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -2.5, 0, Infinity, NaN)
    assert.deepEqual([...roundTrip('bf16', values)], [1, 1, 1 + 2 ** -6, -2.5, 0, Infinity, NaN])
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

  it('keeps what rounding loses, in its unit, and nothing of what is not finite', () => {
    const random = new Random(9)
    const { math } = mathOf('int8')
    for (let run = 0; run < 60; run++) {
      const own = anyValues(random, random.below(MAX))
      const kept = new Uint16Array(own.length)
      // Zeros came: what is finished are the own values, divided.
      const total = [1, 2, 8][run % 3] ?? 1
      const nothing = encodeInt8(new Float32Array(own.length))
      const bytes = math.finish(
        { own, weight: 1, residual: null, kept },
        nothing,
        total,
        new Float32Array(own.length),
      )
      const values = own.map((x) => (0 + x) / total)
      assert.deepEqual(Buffer.from(bytes), Buffer.from(encodeInt8(values)))
      const decoded = decodeInt8(bytes, own.length)
      const expected = Uint16Array.from(values, (x, i) => {
        const lost = Math.fround(Math.fround(x - decoded[i]) * total)
        return Math.abs(lost) < 3e38 ? (bitsOf(lost) + 0x8000) >>> 16 : 0
      })
      assert.deepEqual(kept, expected, `run ${run}`)
    }
  })
})

describe('every wire type', () => {
  for (const wire of WIRES) {
    it(`${wire}: has the reference bytes for any float32 and any length`, () => {
      const random = new Random(12)
      const { math } = mathOf(wire)
      for (let run = 0; run < 100; run++) {
        const values = anyValues(random, random.below(MAX))
        const encoded = math.encode(values).slice()
        assert.equal(encoded.byteLength, encodedBytes(wire, values.length))
        assert.deepEqual(encoded, encodeByHand(wire, values).slice(), `run ${run}`)
        const expected = decodeByHand(wire, encoded, values.length)
        assert.deepEqual([...decode(math, encoded, values.length)], [...expected], `run ${run}`)
      }
    })

    it(`${wire}: encoding what was decoded gives the same bytes, so forwarding changes nothing`, () => {
      const random = new Random(5)
      const { math } = mathOf(wire)
      for (let run = 0; run < 100; run++) {
        const count = random.below(700)
        const size = 2 ** random.between(-140, 100)
        const values = Float32Array.from({ length: count }, () => random.between(-1, 1) * size)
        const bytes = math.encode(values).slice()
        const decoded = decode(math, bytes, count)
        assert.deepEqual(math.encode(decoded).slice(), bytes, `run ${run}, ${count} values of size ${size}`)
      }
    })

    it(`${wire}: does the same where \`room\` had the bytes put, whatever lay there, and leaves lent frames alone`, () => {
      const random = new Random(9)
      const { math } = mathOf(wire)
      const { math: other } = mathOf(wire)
      for (let run = 0; run < 80; run++) {
        const count = 1 + random.below(MAX)
        const [own, came] = [anyValues(random, count), anyValues(random, count)]
        const part: Part = { own, weight: 0.5, residual: null, kept: null }
        const payload = encodeByHand(wire, came).slice()
        const [mean, otherMean] = [new Float32Array(count), new Float32Array(count)]
        const lent = other.lend(other.send(part))
        const frame = lent?.frame.slice()
        const arrive = (): Uint8Array => {
          // As much as any payload may leave there.
          other.room(encodedBytes(wire, MAX)).fill(0x7f)
          const room = other.room(payload.byteLength)
          room.set(payload)
          return room
        }
        const total = [2, 3][run % 2]
        assert.deepEqual(
          other.pass(part, arrive()).slice(),
          math.pass(part, payload).slice(),
          `run ${run}: passed`,
        )
        const finished = other.finish(part, arrive(), total, otherMean).slice()
        assert.deepEqual(finished, math.finish(part, payload, total, mean).slice(), `run ${run}: finished`)
        assert.deepEqual(bytesOf(otherMean), bytesOf(mean), `run ${run}: mean`)
        other.decode(arrive(), otherMean)
        math.decode(payload, mean)
        assert.deepEqual(bytesOf(otherMean), bytesOf(mean), `run ${run}: decoded`)
        assert.deepEqual(lent?.frame.slice(), frame, `run ${run}: lent`)
        lent?.release()
      }
    })

    it(`${wire}: weighs, adds and divides as float32 arithmetic element by element does, in place and through copies`, () => {
      const random = new Random(7)
      const { math, memory } = mathOf(wire, 64 * MAX)
      const [ownHere, resultHere] = [memory.lendFloats(MAX), memory.lendFloats(MAX)]
      const [residualHere, keptHere] = [memory.lendHalves(MAX), memory.lendHalves(MAX)]
      assert.ok(ownHere !== null && resultHere !== null && residualHere !== null && keptHere !== null)
      for (let run = 0; run < 80; run++) {
        const count = [256, 512, random.below(MAX), random.below(300)][run % 4] ?? 0
        const start = random.below(MAX - count + 1)
        const isInPlace = run % 3 > 0
        const draw = (): Float32Array => Float32Array.from({ length: count }, () => random.between(-9, 9))
        const [own, came] = [draw(), draw()]
        const residual = wire === 'int8' && run % 2 === 1 ? Uint16Array.from(draw(), toBf16) : null
        const weight = run % 5 === 0 ? 1 : Math.fround(random.between(0, 3))
        const total = [4, 3, 0, 0.7][(run >> 2) % 4] ?? 1
        ownHere.fill(NaN).set(own, start)
        residualHere.fill(0x7fc0).set(residual ?? [], start)
        resultHere.fill(5)
        keptHere.fill(6)
        const part: Part = isInPlace
          ? {
              own: ownHere.subarray(start, start + count),
              weight,
              residual: residual === null ? null : residualHere.subarray(start, start + count),
              kept: keptHere.subarray(start, start + count),
            }
          : { own, weight, residual, kept: new Uint16Array(count) }
        const result: Float32Array = isInPlace
          ? resultHere.subarray(start, start + count)
          : new Float32Array(count)

        const mine = own.map((x, i) => {
          const weighed = Math.fround(x * weight)
          return residual === null ? weighed : Math.fround(weighed + fromBf16(residual[i]))
        })
        const what = `run ${run}, ${count} values from ${start}`
        assert.deepEqual(math.send(part).slice(), encodeByHand(wire, mine).slice(), `${what}: sent`)
        const payload = encodeByHand(wire, came).slice()
        const part2 = decodeByHand(wire, payload, count)
        const sum = mine.map((x, i) => part2[i] + x)
        assert.deepEqual(
          math.pass(part, payload).slice(),
          encodeByHand(wire, sum).slice(),
          `${what}: passed on`,
        )
        const mean = sum.map((x) => (total === 0 ? 0 : x / Math.fround(total)))
        const bytes: Uint8Array = math.finish(part, payload, total, result).slice()
        assert.deepEqual(bytes, encodeByHand(wire, mean).slice(), `${what}: finished`)
        const settled = decodeByHand(wire, bytes, count)
        assert.deepEqual(
          bytesOf(result).slice(),
          bytesOf(settled).slice(),
          `${what}: settled as the others will`,
        )

        const outside = (array: Float32Array | Uint16Array): number[] => [
          ...array.subarray(0, start),
          ...array.subarray(start + count),
        ]
        assert.ok(outside(resultHere).every((x) => x === 5) && outside(keptHere).every((x) => x === 6), what)
        assert.deepEqual([...part.own], [...own], `${what}: only read`)
      }
    })
  }

  it('what is lent ends where the memory does', () => {
    const { memory } = mathOf('f32', 4096)
    assert.equal(memory.lendFloats(1024)?.length, 1024)
    // The memory is rounded up to pages of 64 KiB.
    assert.equal(memory.lendFloats(1024 * 1024), null)
  })
})
