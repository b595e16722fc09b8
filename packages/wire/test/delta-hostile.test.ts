/** Hostile DELTA files: named attacks one by one, memory following one tensor, and a seeded share of the fuzzer. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { DeltaLimits, DeltaTensorSource, WireErrorCode } from '@gym-node/wire'
import {
  DEFAULT_DELTA_LIMITS,
  decodeDelta,
  decodeDeltaBuffer,
  encodeDelta,
  encodeDeltaToBuffer,
  sha3_256,
} from '@gym-node/wire'
import { fieldsOf } from './delta-mutator.ts'
import { runFuzz } from './fuzz-run.ts'
import { SAMPLE_METADATA, normals, sampleTensors, testIdentity } from './samples.ts'

const u32 = (n: number): Buffer => Buffer.from(Uint32Array.of(n).buffer)
const u64 = (...n: bigint[]): Buffer => Buffer.from(BigUint64Array.from(n).buffer)

/** A file around a hand-made tensor section, with a fitting checksum. */
async function fileWith(count: number, section: Uint8Array, compression = 0): Promise<Uint8Array> {
  const empty = Buffer.from(
    await encodeDeltaToBuffer({ metadata: SAMPLE_METADATA, tensors: [], compression: 'none' }),
  )
  const body = Buffer.concat([empty.subarray(24, empty.length - 4), u32(count), section])
  return Buffer.concat([
    Buffer.from('DELTA'),
    Buffer.of(1, compression, 0),
    sha3_256(body).subarray(0, 16),
    body,
  ])
}

const record = (name: string, dtype: number, dims: bigint[], stored: bigint, data: Uint8Array): Buffer =>
  Buffer.concat([
    u32(name.length),
    Buffer.from(name),
    Buffer.of(dtype, dims.length),
    u64(...dims),
    u64(stored),
    data,
  ])

async function requireRefusal(
  file: Uint8Array,
  code: WireErrorCode,
  limits?: Partial<DeltaLimits>,
): Promise<void> {
  const read = async (): Promise<unknown> =>
    (await decodeDeltaBuffer(file, { ...DEFAULT_DELTA_LIMITS, ...limits })).finish()
  await assert.rejects(read(), { name: 'WireError', code })
}

describe('a hostile DELTA file', () => {
  const four = new Uint8Array(4)
  const good = record('a', 0, [1n], 4n, four)

  it('is refused when it repeats a tensor or puts them out of order', async () => {
    await requireRefusal(await fileWith(2, Buffer.concat([good, good])), 'BAD_DELTA')
    const unsorted = Buffer.concat([record('b', 0, [1n], 4n, four), good])
    await requireRefusal(await fileWith(2, unsorted), 'BAD_DELTA')
  })

  it('is refused when a name is empty, too long or not UTF-8', async () => {
    await requireRefusal(await fileWith(1, record('', 0, [1n], 4n, four)), 'BAD_DELTA')
    await requireRefusal(await fileWith(1, record('x'.repeat(1025), 0, [1n], 4n, four)), 'LIMIT_EXCEEDED')
    const bad = Buffer.from(good).fill(0xff, 4, 5)
    await requireRefusal(await fileWith(1, bad), 'BAD_DELTA')
  })

  it('is refused when it counts more tensors than it has, or fewer', async () => {
    await requireRefusal(await fileWith(2, good), 'TRUNCATED')
    await requireRefusal(await fileWith(0, good), 'BAD_CHECKSUM')
    await requireRefusal(await fileWith(0xffffffff, good), 'LIMIT_EXCEEDED')
  })

  it('is refused when a length is not what dtype and shape say', async () => {
    for (const stored of [0n, 3n, 5n, 2n ** 32n, 2n ** 53n, 2n ** 64n - 1n]) {
      await requireRefusal(await fileWith(1, record('a', 0, [1n], stored, four)), 'BAD_DELTA')
    }
    await requireRefusal(await fileWith(1, record('a', 0, [0n], 4n, four)), 'BAD_DELTA')
  })

  it('is refused when its shape overflows, before memory is taken', async () => {
    for (const dims of [
      [2n ** 63n],
      [2n ** 32n, 2n ** 32n],
      [2n ** 26n + 1n],
      new Array<bigint>(255).fill(2n),
    ]) {
      const code = dims[0] >= 2n ** 53n ? 'BAD_DELTA' : 'LIMIT_EXCEEDED'
      await requireRefusal(await fileWith(1, record('a', 0, dims, 4n, four)), code)
    }
  })

  it('is read when its rank is 255 and its shape honest', async () => {
    const delta = await decodeDeltaBuffer(
      await fileWith(1, record('a', 0, new Array<bigint>(255).fill(1n), 4n, four)),
    )
    for await (const { shape } of delta.tensors()) assert.equal(shape.length, 255)
  })

  it('is refused for NaN and infinity in every dtype', async () => {
    const cases: [number, string][] = [
      [0, '0000c07f'],
      [1, '007e'],
      [2, 'c0ff'],
      [3, '0000807f' + '01'],
      [4, '0000807f' + '01'],
    ]
    for (const [dtype, data] of cases) {
      const bytes = Buffer.from(data, 'hex')
      await requireRefusal(
        await fileWith(1, record('a', dtype, [1n], BigInt(bytes.length), bytes)),
        'NON_FINITE',
      )
    }
  })

  it('is refused for codes this version does not know', async () => {
    await requireRefusal(await fileWith(1, record('a', 5, [1n], 4n, four)), 'UNSUPPORTED')
    await requireRefusal(await fileWith(1, good, 3), 'UNSUPPORTED')
    const file = Buffer.from(await fileWith(1, good))
    await requireRefusal(Buffer.from(file).fill(2, 5, 6), 'UNSUPPORTED')
    await requireRefusal(Buffer.from(file).fill(2, 7, 8), 'UNSUPPORTED')
  })

  it('is refused when all its tensors together exceed the limit, though each is small', async () => {
    const many = Array.from({ length: 10 }, (_, i) => record(`t${i}`, 0, [1n], 4n, four))
    await requireRefusal(await fileWith(10, Buffer.concat(many)), 'LIMIT_EXCEEDED', { maxTotalBytes: 39 })
    await requireRefusal(await fileWith(10, Buffer.concat(many)), 'LIMIT_EXCEEDED', { maxTensors: 9 })
    await requireRefusal(await fileWith(1, good), 'LIMIT_EXCEEDED', { maxMetadataBytes: 100 })
  })

  it('is refused when bytes follow its end, or its signature flag and block disagree', async () => {
    await requireRefusal(Buffer.concat([await fileWith(1, good), Buffer.of(0)]), 'BAD_DELTA')
    const claimed = Buffer.from(await fileWith(1, good)).fill(1, 7, 8)
    await requireRefusal(claimed, 'TRUNCATED')
    await requireRefusal(Buffer.concat([claimed, Buffer.of(0, 0)]), 'BAD_DELTA')
    await requireRefusal(Buffer.concat([claimed, Buffer.of(255, 255)]), 'BAD_DELTA')
    await requireRefusal(Buffer.concat([claimed, Buffer.of(1, 0, 9)]), 'UNSUPPORTED')
  })

  it('is refused when it carries one signature scheme twice', async () => {
    const input = {
      metadata: SAMPLE_METADATA,
      tensors: [],
      compression: 'none' as const,
      signers: testIdentity(1),
    }
    const file = Buffer.from(await encodeDeltaToBuffer(input))
    const { bodyEnd } = fieldsOf(file)
    const ed25519 = file.subarray(bodyEnd + 2, bodyEnd + 2 + 101)
    await requireRefusal(
      Buffer.concat([file.subarray(0, bodyEnd), Buffer.of(2, 0), ed25519, ed25519]),
      'BAD_DELTA',
    )
  })

  it('is refused at every length it may be cut to', async () => {
    const file = await encodeDeltaToBuffer({
      metadata: SAMPLE_METADATA,
      tensors: sampleTensors(),
      compression: 'zstd',
    })
    for (let length = 0; length < file.length; length += 1 + (length % 5)) {
      await requireRefusal(file.subarray(0, length), 'TRUNCATED')
    }
  })
})

describe('memory', () => {
  it('follows one tensor, not the file, while 24 tensors of 1 MiB stream from encoder to decoder', async () => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    // Array buffers are swept beside the main thread; a second collection waits for the first one's sweep.
    const gc = (): void => {
      collect()
      collect()
    }
    const elements = 1 << 18
    const values = normals(1024, 1)
    const tensors = Array.from({ length: 24 }, (_, i): DeltaTensorSource => ({
      name: `t${String(i).padStart(2, '0')}`,
      dtype: 'f32',
      shape: [elements],
      values: () => new Float32Array(elements).map((_, e) => values[e & 1023]),
    }))
    gc()
    const before = process.memoryUsage().external
    for (const compression of ['none', 'lz4', 'zstd'] as const) {
      let peak = 0
      const delta = await decodeDelta(encodeDelta({ metadata: SAMPLE_METADATA, tensors, compression }))
      for await (const tensor of delta.tensors()) {
        assert.equal(tensor.values.length, elements)
        gc()
        peak = Math.max(peak, process.memoryUsage().external - before)
      }
      // Values in the encoder, packed and stored bytes on the way, values in the decoder: five tensors; the file has 24.
      assert.ok(peak < 5 * 4 * elements, `${compression}: ${peak} bytes in use`)
    }
  })
})

describe('the fuzzer', () => {
  it('finds no mutant among 4000 that is read wrongly or refused without a WireError', async () => {
    const report = await runFuzz(4000, 20260108)
    assert.equal(report.failure, null)
    assert.equal(report.cases, 4000)
    // Each kind of refusal is reached, so the mutants do get deep into the format.
    for (const code of [
      'BAD_DELTA',
      'TRUNCATED',
      'BAD_JSON',
      'BAD_COMPRESSION',
      'BAD_METADATA',
      'BAD_CHECKSUM',
      'LIMIT_EXCEEDED',
      'UNSUPPORTED',
      'NON_FINITE',
      'read',
    ]) {
      assert.ok((report.outcomes.get(code) ?? 0) > 0, code)
    }
  })
})
