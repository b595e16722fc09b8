/** Reading DELTA files: any chunking, any tensors, once, without sharing memory. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { DeltaTensorSource } from '@gym-node/wire'
import {
  DELTA_COMPRESSIONS,
  DELTA_DTYPES,
  decodeDelta,
  decodeDeltaBuffer,
  encodeDeltaToBuffer,
  roundTripTensor,
  verifyDelta,
} from '@gym-node/wire'
import { SAMPLE, SAMPLE_METADATA, collect, hex, inChunks, normals, readAll, testIdentity } from './samples.ts'

const alice = testIdentity(1)

describe('decodeDelta', () => {
  it('reads the same from chunks of any size', async () => {
    const file = await encodeDeltaToBuffer({ ...SAMPLE, compression: 'lz4', signers: alice })
    const whole = await readAll(file)
    for (const size of [1, 2, 3, 7, 64, 1000]) {
      const delta = await decodeDelta(inChunks(file, size))
      assert.deepEqual(await collect(delta.tensors()), whole)
      const tail = await delta.finish()
      assert.deepEqual([tail.fileBytes, tail.signatures.length], [file.length, 2])
    }
  })

  it('keeps members it does not know, and re-encodes them', async () => {
    const metadata = {
      ...SAMPLE_METADATA,
      future: { a: [1] },
      extra: { note: 'x' },
      content: 'adapter' as const,
    }
    const file = await encodeDeltaToBuffer({ ...SAMPLE, metadata })
    const delta = await decodeDeltaBuffer(file)
    assert.deepEqual(delta.metadata, metadata)
    assert.equal(hex(await encodeDeltaToBuffer({ ...SAMPLE, metadata: delta.metadata })), hex(file))
  })

  it('hands out values that do not share the file’s memory', async () => {
    const file = await encodeDeltaToBuffer(SAMPLE)
    const tensors = await readAll(file)
    const before = tensors.map(({ values }) => [...values])
    file.fill(0)
    assert.deepEqual(
      tensors.map(({ values }) => [...values]),
      before,
    )
  })

  it('gives the tensors once; finish() reads what is left', async () => {
    const delta = await decodeDeltaBuffer(await encodeDeltaToBuffer(SAMPLE))
    const iterator = delta.tensors()
    await iterator.next()
    await assert.rejects(collect(delta.tensors()), { code: 'BAD_STATE' })
    const tail = await delta.finish()
    assert.equal(tail.signatures.length, 0)
    await assert.rejects(delta.finish(), { code: 'BAD_STATE' })
  })

  it('lets the event loop turn while a large file is encoded, decoded and verified in memory', async () => {
    const tensors = Array.from({ length: 12 }, (_, i): DeltaTensorSource => ({
      name: `t${i}`,
      dtype: 'f32',
      shape: [1 << 18],
      values: new Float32Array(1 << 18),
    }))
    const turnsDuring = async (work: () => Promise<unknown>): Promise<number> => {
      let turns = 0
      const count = (): void => {
        turns++
        timer = setImmediate(count)
      }
      let timer = setImmediate(count)
      await work()
      clearImmediate(timer)
      return turns
    }
    let file: Uint8Array = new Uint8Array(0)
    // 12 MiB at 4 MiB a turn.
    assert.ok(
      (await turnsDuring(async () => (file = await encodeDeltaToBuffer({ ...SAMPLE, tensors })))) >= 2,
    )
    assert.ok((await turnsDuring(() => readAll(file))) >= 2)
    assert.ok((await turnsDuring(() => verifyDelta([file]))) >= 2)
  })

  it('closes its source when the caller gives up', async () => {
    const file = await encodeDeltaToBuffer(SAMPLE)
    let isClosed = false
    const source = async function* (): AsyncGenerator<Uint8Array> {
      try {
        for (const chunk of inChunks(file, 50)) yield chunk
      } finally {
        isClosed = true
      }
    }
    const delta = await decodeDelta(source())
    await delta.tensors().next()
    await delta.close()
    assert.ok(isClosed)
    await delta.close()
    await assert.rejects(delta.finish(), { code: 'BAD_STATE' })
  })

  it('closes its source after an error and after the end', async () => {
    const file = await encodeDeltaToBuffer(SAMPLE)
    for (const bytes of [file, file.subarray(0, 10), file.subarray(0, file.length - 1)]) {
      let isClosed = false
      const source = async function* (): AsyncGenerator<Uint8Array> {
        try {
          yield bytes
        } finally {
          isClosed = true
        }
      }
      try {
        await (await decodeDelta(source())).finish()
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'TRUNCATED')
      }
      assert.ok(isClosed)
    }
  })

  it('round-trips any tensors in any dtype and compression', async () => {
    const tensor = fc.record({
      dtype: fc.constantFrom(...DELTA_DTYPES),
      shape: fc.array(fc.nat(6), { maxLength: 4 }),
      seed: fc.nat(),
    })
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.string({ minLength: 1, maxLength: 20, unit: 'grapheme' }), { maxLength: 5 }),
        fc.array(tensor, { minLength: 5, maxLength: 5 }),
        fc.constantFrom(...DELTA_COMPRESSIONS),
        fc.integer({ min: 1, max: 500 }),
        async (names, forms, compression, chunk) => {
          const tensors = names.map((name, i): DeltaTensorSource & { values: Float32Array } => {
            const { dtype, shape, seed } = forms[i]
            return {
              name,
              dtype,
              shape,
              values: normals(
                shape.reduce((a, b) => a * b, 1),
                seed,
              ),
            }
          })
          const file = await encodeDeltaToBuffer({ ...SAMPLE, tensors, compression })
          const read = await collect((await decodeDelta(inChunks(file, chunk))).tensors())
          assert.equal(read.length, tensors.length)
          for (const { name, dtype, shape, values } of read) {
            const source = tensors.find((t) => t.name === name)
            assert.ok(source !== undefined)
            assert.deepEqual(values, roundTripTensor(source.dtype, source.shape, source.values).values)
            assert.deepEqual([dtype, shape], [source.dtype, source.shape])
          }
        },
      ),
      { seed: 20260106, numRuns: 60 },
    )
  })
})
