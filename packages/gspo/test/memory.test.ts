import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { activationBytesPerLayer, headParts, planTraining, residentBytes } from '../src/memory.ts'
import { QWEN3_06B } from './model-shapes.ts'

const GIB = 2 ** 30
const request = (use4bit: boolean, limitBytes: number | undefined) => {
  return { config: QWEN3_06B, parameters: 596_000_000, use4bit, quantBlock: 128, limitBytes }
}
/** A group of 8 x 64 tokens on a prompt of 64. */
const GROUP = { longest: 128, all: 576 }

describe('memory', () => {
  it('counts a layer as worked out by hand', () => {
    // 6 * 1024 + 4 * 24 * 128 + 5 * 3072 + 2 * 16 * 256 = 41984 numbers of 4 bytes, twice.
    assert.equal(activationBytesPerLayer(QWEN3_06B), 41984 * 4 * 2)
  })

  it('a 0.6B model in 4 bits trains below 4 GB, its layers in segments; in float32 it does not', () => {
    assert.ok(residentBytes(request(true, undefined)) < 2.5 * GIB)
    const { tokens, segments } = planTraining(request(true, 4 * GIB), GROUP)
    assert.ok(tokens >= 256 && segments > 1 && segments < QWEN3_06B.layers, `${tokens} ${segments}`)
    assert.throws(() => planTraining(request(false, 4 * GIB), GROUP), {
      code: 'OUT_OF_MEMORY_LIMIT',
      message: /128 tokens.*memory_limit_mb is 4096.*use_4bit/,
    })
  })

  it('an engine that copies weights holds them once as float32, in 4 bits too', () => {
    const copied = (use4bit: boolean): number =>
      residentBytes({ ...request(use4bit, undefined), weights: 'copied' })
    // 300 MiB for the process, 3 x 32 for a part of the head's logits; 4 bytes for each of 596 million, and in 4 bits for the
    // 151936 x 1024 of the head again.
    assert.equal(copied(false), 396 * 2 ** 20 + 4 * 596_000_000)
    assert.equal(copied(true), copied(false) + 4 * 151936 * 1024)
  })

  it('an 8-bit head saves its floats: 4 bytes of 151936 x 1024', () => {
    const bytes = (use8bitHead: boolean): number =>
      residentBytes({ ...request(true, undefined), use8bitHead })
    assert.equal(bytes(false) - bytes(true), 4 * 151936 * 1024)
  })

  it('names a limit that would do, and it does', () => {
    let message = ''
    try {
      planTraining(request(true, GIB), GROUP)
    } catch (error) {
      message = String(error)
    }
    const needed = Number(/about (\d+) MB/.exec(message)?.[1])
    assert.ok(needed > 1024 && needed < 4096, message)
    assert.ok(planTraining(request(true, needed * 2 ** 20), GROUP).tokens >= GROUP.longest)
    assert.throws(() => planTraining(request(true, (needed - 4) * 2 ** 20), GROUP), {
      code: 'OUT_OF_MEMORY_LIMIT',
    })
  })

  it('more memory means fewer segments, then more tokens, up to a bound', () => {
    const plans = [3, 4, 5, 6, 16, 1000].map((limit) =>
      planTraining(request(true, limit * GIB), { longest: 128, all: 100_000 }),
    )
    const segments = plans.map((plan) => plan.segments)
    assert.deepEqual(
      segments,
      segments.toSorted((a, b) => b - a),
    )
    assert.deepEqual(plans.at(-1), { tokens: 4096, segments: 1, headLogits: 2 ** 23 })
  })

  it('computes every layer twice, or none, where that is asked for', () => {
    const plan = (checkpointing: boolean) =>
      planTraining({ ...request(true, undefined), checkpointing }, GROUP).segments
    assert.deepEqual([plan(true), plan(false)], [28, 1])
  })

  it('gives the head’s logits a share of the limit, and goes through the vocabulary in parts of them', () => {
    // A thirty-second of 1.5 GiB, in three copies of 4 bytes: 4 Mi logits. 512 tokens of 151936 are 77.8 million.
    const small = { ...request(true, 1.5 * GIB), parameters: 160_000_000 }
    assert.equal(planTraining(small, { longest: 8, all: 8 }).headLogits, 2 ** 22)
    assert.equal(headParts(512, 151936, 2 ** 22), 32)
    assert.equal(headParts(512, 151936, 2 ** 23), 16)
    assert.equal(headParts(55, 151936, 2 ** 23), 1)
    assert.equal(headParts(0, 151936, 2 ** 23), 1)
    // No part is smaller than 1024 tokens of the vocabulary: 151936 / 1024 = 148.4.
    assert.equal(headParts(4096, 151936, 2 ** 20), 149)
    assert.equal(headParts(4096, 512, 2 ** 10), 1)
  })
})
