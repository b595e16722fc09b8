/** Writing DELTA files: the bytes, their order, lazy tensors, and what a writer refuses. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { DeltaTensorSource } from '@gym-node/wire'
import {
  DELTA_COMPRESSIONS,
  encodeDelta,
  encodeDeltaToBuffer,
  roundTripTensor,
  sha3_256,
} from '@gym-node/wire'
import {
  SAMPLE,
  SAMPLE_METADATA,
  collect,
  hex,
  normals,
  readAll,
  sampleTensors,
  testIdentity,
} from './samples.ts'

describe('encodeDelta', () => {
  for (const compression of DELTA_COMPRESSIONS) {
    it(`round-trips every dtype with compression ${compression}, sorted by name`, async () => {
      const tensors = await readAll(await encodeDeltaToBuffer({ ...SAMPLE, compression }))
      assert.deepEqual(
        tensors.map((t) => t.name),
        ['bf16', 'bitdelta', 'empty', 'f16', 'f32', 'i8', 'scalar'],
      )
      for (const source of sampleTensors()) {
        const read = tensors.find(({ name }) => name === source.name)
        assert.ok(read !== undefined && source.values instanceof Float32Array)
        assert.deepEqual([read.dtype, read.shape], [source.dtype, source.shape])
        assert.deepEqual(read.values, roundTripTensor(source.dtype, source.shape, source.values).values)
      }
    })

    it(`streams the same bytes as the buffer with compression ${compression}`, async () => {
      const input = { ...SAMPLE, compression }
      assert.equal(
        hex(Buffer.concat(await collect(encodeDelta(input)))),
        hex(await encodeDeltaToBuffer(input)),
      )
    })
  }

  it('lays the bytes out as specified: a file with one f32 scalar, field by field', async () => {
    const file = Buffer.from(
      await encodeDeltaToBuffer({
        ...SAMPLE,
        tensors: [{ name: 'w', dtype: 'f32', shape: [1, 1], values: Float32Array.of(1) }],
      }),
    )
    assert.equal(file.toString('latin1', 0, 5), 'DELTA')
    assert.deepEqual([...file.subarray(5, 8)], [1, 0, 0])
    assert.equal(hex(file.subarray(8, 24)), hex(sha3_256(file.subarray(24)).subarray(0, 16)))
    const length = file.readUInt32LE(24)
    assert.equal((JSON.parse(file.toString('utf8', 28, 28 + length)) as { job: string }).job, 'arith')
    const rest =
      '01000000' +
      '01000000' +
      '77' +
      '00' +
      '02' +
      '0100000000000000'.repeat(2) +
      '0400000000000000' +
      '0000803f'
    assert.equal(hex(file.subarray(28 + length)), rest)
  })

  it('gives one file for one content, whatever the order of tensors and members', async () => {
    const shuffled = Object.fromEntries(
      Object.entries(SAMPLE_METADATA).reverse(),
    ) as unknown as typeof SAMPLE_METADATA
    const other = await encodeDeltaToBuffer({
      ...SAMPLE,
      metadata: shuffled,
      tensors: sampleTensors().reverse(),
    })
    assert.equal(hex(other), hex(await encodeDeltaToBuffer(SAMPLE)))
  })

  it('sorts names by their UTF-8 bytes, not by UTF-16 units', async () => {
    const names = ['\u{1f600}', '\uff5e', 'a', 'B']
    const tensors = names.map((name): DeltaTensorSource => ({
      name,
      dtype: 'f32',
      shape: [],
      values: Float32Array.of(0),
    }))
    const read = await readAll(await encodeDeltaToBuffer({ ...SAMPLE, tensors }))
    assert.deepEqual(
      read.map(({ name }) => name),
      ['B', 'a', '\uff5e', '\u{1f600}'],
    )
  })

  it('asks a lazy tensor for its values once a pass and holds no other', async () => {
    let alive = 0
    const calls = new Map<string, number>()
    const tensors = Array.from({ length: 5 }, (_, i): DeltaTensorSource => ({
      name: `t${i}`,
      dtype: 'f32',
      shape: [100],
      values: async () => {
        calls.set(`t${i}`, (calls.get(`t${i}`) ?? 0) + 1)
        alive = i
        return normals(100, i)
      },
    }))
    const order: number[] = []
    for await (const chunk of encodeDelta({ ...SAMPLE, tensors })) if (chunk.length === 400) order.push(alive)
    assert.deepEqual(order, [0, 1, 2, 3, 4])
    assert.deepEqual([...calls.values()], [2, 2, 2, 2, 2])
  })

  it('fails when a tensor changes between the passes, instead of writing a broken file', async () => {
    let calls = 0
    const tensors: DeltaTensorSource[] = [
      { name: 't', dtype: 'f32', shape: [1], values: () => Float32Array.of(calls++) },
    ]
    await assert.rejects(collect(encodeDelta({ ...SAMPLE, tensors })), { code: 'BAD_STATE' })
  })

  it('refuses duplicate, empty and malformed names, wrong counts and non-finite values', async () => {
    const t = (over: Partial<DeltaTensorSource>): DeltaTensorSource => ({
      name: 't',
      dtype: 'f32',
      shape: [1],
      values: Float32Array.of(1),
      ...over,
    })
    const cases: [DeltaTensorSource[], string][] = [
      [[t({}), t({})], 'BAD_ARGUMENT'],
      [[t({ name: '' })], 'BAD_ARGUMENT'],
      [[t({ name: '\ud800' })], 'BAD_ARGUMENT'],
      [[t({ name: 'x'.repeat(1025) })], 'BAD_ARGUMENT'],
      [[t({ shape: [2] })], 'BAD_ARGUMENT'],
      [[t({ shape: [-1] })], 'BAD_DELTA'],
      [[t({ values: Float32Array.of(NaN) })], 'NON_FINITE'],
    ]
    for (const [tensors, code] of cases)
      await assert.rejects(encodeDeltaToBuffer({ ...SAMPLE, tensors }), { code })
  })

  it('refuses metadata that a reader would refuse, and a signer who is not the worker', async () => {
    const large = { ...SAMPLE_METADATA, extra: { text: 'x'.repeat(1 << 20) } }
    await assert.rejects(encodeDeltaToBuffer({ ...SAMPLE, metadata: large }), { code: 'BAD_METADATA' })
    const metadata = { ...SAMPLE_METADATA, loss: NaN }
    await assert.rejects(encodeDeltaToBuffer({ ...SAMPLE, metadata }), { code: 'BAD_JSON' })
    await assert.rejects(encodeDeltaToBuffer({ ...SAMPLE, signers: testIdentity(2) }), {
      code: 'BAD_ARGUMENT',
    })
  })
})
