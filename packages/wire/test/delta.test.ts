/** DELTA files: round trips in every dtype and compression, in any chunking, and the verdict on whose they are. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { DeltaInput, DeltaTensor, DeltaTensorSource } from '@gym-node/wire'
import {
  DELTA_COMPRESSIONS,
  DELTA_DTYPES,
  decodeDelta,
  decodeDeltaBuffer,
  encodeDelta,
  encodeDeltaToBuffer,
  roundTripTensor,
  sha3_256,
  verifyDelta,
} from '@gym-node/wire'
import { SAMPLE_METADATA, normals, sampleTensors, testIdentity } from './samples.ts'

const alice = testIdentity(1)
const SAMPLE: DeltaInput = { metadata: SAMPLE_METADATA, tensors: sampleTensors(), compression: 'none' }
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

function* inChunks(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let i = 0; i < bytes.length; i += size) yield bytes.subarray(i, i + size)
}

const readAll = async (bytes: Uint8Array): Promise<DeltaTensor[]> =>
  collect((await decodeDeltaBuffer(bytes)).tensors())

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

describe('verifyDelta', () => {
  it('finds a signed file good, and says who signed it', async () => {
    const file = await encodeDeltaToBuffer({ ...SAMPLE, signers: alice })
    const verdict = await verifyDelta(inChunks(file, 100))
    assert.deepEqual(
      verdict.checks.map(({ name, ok }) => [name, ok]),
      [
        ['format', true],
        ['checksum', true],
        ['ed25519', true],
        ['ml_dsa_87', true],
        ['binding', true],
        ['worker_id', true],
      ],
    )
    assert.ok(verdict.ok)
    assert.equal(verdict.metadata?.worker_id, alice.peerId)
    assert.equal(verdict.attestationDigest, null)
    assert.ok(verdict.bodySha3 !== null && hex(verdict.bodySha3).startsWith(hex(file.subarray(8, 24))))
  })

  it('finds an unsigned file not good, for the reason that it is unsigned', async () => {
    const verdict = await verifyDelta([await encodeDeltaToBuffer(SAMPLE)])
    assert.ok(!verdict.ok)
    assert.deepEqual(
      verdict.checks.filter(({ ok }) => !ok).map(({ name }) => name),
      ['ed25519', 'ml_dsa_87', 'binding', 'worker_id'],
    )
  })

  it('finds every altered byte: body, header, keys and signatures', async () => {
    const file = await encodeDeltaToBuffer({ ...SAMPLE, signers: alice })
    const signatureBlock = file.length - 2 - (1 + 2 + 32 + 2 + 64) - (1 + 2 + 2592 + 2 + 4627)
    const places = [
      0,
      5,
      6,
      7,
      8,
      23,
      24,
      30,
      500,
      11000,
      signatureBlock - 1,
      signatureBlock,
      signatureBlock + 2,
      signatureBlock + 5,
      signatureBlock + 40,
      signatureBlock + 110,
      file.length - 4000,
      file.length - 1,
    ]
    for (const place of places) {
      const altered = Uint8Array.from(file)
      altered[place] = (altered[place] ?? 0) ^ 0x10
      assert.ok(!(await verifyDelta([altered])).ok, `byte ${place} of ${file.length}`)
    }
  })

  it('finds a file re-signed by another identity, which kept the worker’s name and binding', async () => {
    const genuine = await encodeDeltaToBuffer({ ...SAMPLE, signers: alice })
    const mallory = testIdentity(3)
    const blockBytes = 2 + (1 + 2 + 32 + 2 + 64) + (1 + 2 + 2592 + 2 + 4627)
    const body = genuine.subarray(0, genuine.length - blockBytes)
    const { signDelta } = await import('../src/delta-signatures.ts')
    const forged = Buffer.concat([body, signDelta(mallory, sha3_256(body))])
    const verdict = await verifyDelta([forged])
    assert.deepEqual(
      verdict.checks.filter(({ ok }) => !ok).map(({ name }) => name),
      ['binding'],
    )
  })

  it('finds a file whose binding and signatures agree but name another worker', async () => {
    const mallory = testIdentity(3)
    const metadata = { ...SAMPLE_METADATA, worker_id: mallory.peerId }
    const signed = Buffer.from(await encodeDeltaToBuffer({ ...SAMPLE, metadata, signers: mallory }))
    assert.ok((await verifyDelta([signed])).ok)
    // The same file with alice's name in it, checksum and signatures made anew by mallory.
    const blockBytes = 2 + (1 + 2 + 32 + 2 + 64) + (1 + 2 + 2592 + 2 + 4627)
    const body = Buffer.from(
      signed
        .subarray(24, signed.length - blockBytes)
        .toString('latin1')
        .replace(mallory.peerId, alice.peerId),
      'latin1',
    )
    const header = Buffer.concat([signed.subarray(0, 8), sha3_256(body).subarray(0, 16)])
    const { signDelta } = await import('../src/delta-signatures.ts')
    const forged = Buffer.concat([header, body, signDelta(mallory, sha3_256(header, body))])
    const verdict = await verifyDelta([forged])
    assert.deepEqual(
      verdict.checks.filter(({ ok }) => !ok).map(({ name }) => name),
      ['worker_id'],
    )
  })

  it('answers on garbage, and rejects only when the source fails', async () => {
    const verdict = await verifyDelta([Buffer.from('not a delta at all, but long enough for a header')])
    assert.ok(!verdict.ok && verdict.metadata === null)
    assert.match(verdict.checks[0]?.detail ?? '', /not a DELTA file/)
    const failing = async function* (): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(3)
      throw new Error('disk on fire')
    }
    await assert.rejects(verifyDelta(failing()), { message: 'disk on fire' })
  })

  it('gives an attester and a verifier the same digest, which covers tensors and all other metadata', async () => {
    const digests: string[] = []
    const attest = (digest: Uint8Array): Promise<{ type: 'none' }> => {
      digests.push(hex(digest))
      return Promise.resolve({ type: 'tpm2', quote: 'AAAA' } as unknown as { type: 'none' })
    }
    const input = { ...SAMPLE, attest, signers: alice }
    for (const file of [await encodeDeltaToBuffer(input), Buffer.concat(await collect(encodeDelta(input)))]) {
      const verdict = await verifyDelta([file])
      assert.ok(verdict.ok && verdict.attestationDigest !== null)
      assert.equal(hex(verdict.attestationDigest), digests.at(-1))
    }
    await encodeDeltaToBuffer({ ...input, tensors: sampleTensors().slice(1) })
    await encodeDeltaToBuffer({ ...input, metadata: { ...SAMPLE_METADATA, round: 8 } })
    assert.equal(new Set(digests).size, 3)
  })
})
