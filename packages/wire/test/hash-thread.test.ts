/** Large files are hashed on a thread: the same hash, whatever else is read meanwhile and however a reading ends. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { decodeDelta, decodeDeltaBuffer, encodeDeltaToBuffer, sha3_256, verifyDelta } from '@gym-node/wire'
import { THREADED_HASH_BYTES } from '../src/defaults.ts'
import { pacedSha3_256 } from '../src/hash-thread.ts'
import { SAMPLE_METADATA, normals } from './samples.ts'

/** One block of numbers, repeated: what is hashed must be many bytes, not new ones. */
const block = new Uint8Array(normals(1 << 16, 3).buffer)
const many = Buffer.concat(Array.from({ length: 48 }, () => block)) // 12 MiB

async function hashed(bytes: Uint8Array, chunkBytes: number): Promise<Uint8Array> {
  const hash = pacedSha3_256(bytes.length, 0)
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    const chunk = Uint8Array.from(bytes.subarray(at, at + chunkBytes))
    await hash.update(chunk)
    chunk.fill(0) // the caller may change it
  }
  return hash.digest()
}

describe('pacedSha3_256', () => {
  it('is SHA3-256 for chunks of any size, on the thread and here at once', async () => {
    assert.ok(many.length > THREADED_HASH_BYTES)
    const expected = Buffer.from(sha3_256(many))
    const sizes = [many.length, 1_000_003, 65_536, 4097]
    const seen = await Promise.all(sizes.map((size) => hashed(many, size)))
    for (const digest of seen) assert.deepEqual(Buffer.from(digest), expected)
    assert.deepEqual(Buffer.from(await hashed(block, 1000)), Buffer.from(sha3_256(block)))
  })

  it('is unharmed by hashes that were given up, before, meanwhile and twice', async () => {
    const lost = pacedSha3_256(many.length, 0)
    await lost.update(many.subarray(0, 3_000_000))
    lost.drop()
    const next = hashed(many, 500_000)
    lost.drop()
    const beside = pacedSha3_256(many.length, 0)
    await beside.update(block)
    beside.drop()
    assert.deepEqual(Buffer.from(await next), Buffer.from(sha3_256(many)))
  })
})

describe('a large file', () => {
  const file = encodeDeltaToBuffer({
    metadata: SAMPLE_METADATA,
    tensors: ['a', 'b', 'c'].map((name, i) => ({
      name,
      dtype: 'f32',
      shape: [1024, 1024],
      values: normals(1 << 20, i),
    })),
    compression: 'none',
  })

  it('reads back, from memory and as a stream, several at once', async () => {
    const bytes = await file
    async function* stream(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < bytes.length; at += 100_000)
        yield Promise.resolve(bytes.subarray(at, at + 100_000))
    }
    const read = async (source: Promise<Awaited<ReturnType<typeof decodeDelta>>>): Promise<number> => {
      let elements = 0
      for await (const { values } of (await source).tensors()) elements += values.length
      return elements
    }
    const counts = await Promise.all([
      read(decodeDeltaBuffer(bytes)),
      read(decodeDelta(stream(), undefined, 'all', bytes.length)),
      read(decodeDeltaBuffer(bytes)),
    ])
    assert.deepEqual(counts, [3 << 20, 3 << 20, 3 << 20])
  })

  it('is refused when a bit is wrong, and the next one is read all the same', async () => {
    const bytes = await file
    const bad = Uint8Array.from(bytes)
    bad[bad.length >> 1] = (bad[bad.length >> 1] ?? 0) ^ 1
    for (const [input, wanted] of [
      [bad, false],
      [bytes, true],
    ] as const) {
      const { checks } = await verifyDelta([input])
      assert.equal(checks.find(({ name }) => name === 'checksum')?.ok, wanted)
    }
    const cut = decodeDeltaBuffer(bytes.subarray(0, bytes.length - 1))
    await assert.rejects(async () => (await cut).finish(), { code: 'TRUNCATED' })
  })
})
