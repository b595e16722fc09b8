import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { hashFiles, openCheckpoint } from '../src/weights/checkpoint.ts'
import { decodeSafetensors, encodeSafetensors, readSafetensorsHeader } from '../src/weights/safetensors.ts'

/** A file built by hand from the format's description: length, JSON, values. */
function handmade(header: unknown, data: Uint8Array): Uint8Array {
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([length, json, data])
}

const floats = new Uint8Array(Float32Array.of(1, -2.5, 3).buffer)

describe('safetensors', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'gym-test-'))
  })
  after(() => rm(folder, { recursive: true, force: true }))

  it('reads a file made by hand, metadata and unaligned values included', () => {
    const header = { __metadata__: { format: 'pt' }, a: { dtype: 'F32', shape: [3], data_offsets: [0, 12] } }
    const { tensors, metadata } = decodeSafetensors(handmade(header, floats))
    assert.deepEqual([...(tensors.get('a')?.values ?? [])], [1, -2.5, 3])
    assert.deepEqual({ ...metadata }, { format: 'pt' })
  })

  it('widens bfloat16 and float16, and narrows int64', () => {
    // 1.5 is 0x3FC0 in bfloat16 and 0x3E00 in float16.
    const data = Uint8Array.of(0xc0, 0x3f, 0x00, 0x3e, 7, 0, 0, 0, 0, 0, 0, 0)
    const header = {
      b: { dtype: 'BF16', shape: [1], data_offsets: [0, 2] },
      h: { dtype: 'F16', shape: [1], data_offsets: [2, 4] },
      i: { dtype: 'I64', shape: [1], data_offsets: [4, 12] },
    }
    const { tensors } = decodeSafetensors(handmade(header, data))
    assert.deepEqual(
      ['b', 'h', 'i'].map((name) => tensors.get(name)?.values[0]),
      [1.5, 1.5, 7],
    )
  })

  it('gives back what it encoded', () => {
    const tensors = [
      ['x', { shape: [2, 1], values: Float32Array.of(4, 5) }],
      ['y', { shape: [], values: Int32Array.of(-6) }],
    ] as const
    const decoded = decodeSafetensors(encodeSafetensors(tensors, { step: '3' }))
    assert.deepEqual(
      [...decoded.tensors],
      [...tensors].map(([name, value]) => [name, { ...value }]),
    )
    assert.equal(decoded.metadata['step'], '3')
  })

  const broken: [string, Uint8Array, RegExp][] = [
    ['fewer than 8 bytes', Uint8Array.of(1, 2), /2 bytes/],
    ['a header longer than the file', handmade({}, floats).fill(0xff, 0, 2), /truncated/],
    [
      'a header that is no JSON',
      Buffer.concat([Buffer.from([3, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('{{{')]),
      /no JSON/,
    ],
    ['a header that is a list', handmade([], floats), /object/],
    [
      'values cut off',
      handmade({ a: { dtype: 'F32', shape: [4], data_offsets: [0, 16] } }, floats),
      /ends at byte .* truncated/,
    ],
    [
      'offsets that do not fit the shape',
      handmade({ a: { dtype: 'F32', shape: [2], data_offsets: [0, 12] } }, floats),
      /12 bytes.*needs 8/,
    ],
    [
      'a negative size',
      handmade({ a: { dtype: 'F32', shape: [-1], data_offsets: [0, 4] } }, floats),
      /bad shape/,
    ],
    [
      'backward offsets',
      handmade({ a: { dtype: 'F32', shape: [1], data_offsets: [8, 4] } }, floats),
      /-4 bytes/,
    ],
    ['an unknown type', handmade({ a: { dtype: 'F8', shape: [1], data_offsets: [0, 1] } }, floats), /F8/],
  ]
  for (const [what, bytes, message] of broken)
    it(`refuses ${what}, in memory and on disk`, async () => {
      assert.throws(() => decodeSafetensors(bytes), { code: 'BAD_SAFETENSORS', message })
      const file = path.join(folder, 'broken.safetensors')
      await writeFile(file, bytes)
      await assert.rejects(readSafetensorsHeader(file), { code: 'BAD_SAFETENSORS', message })
    })

  it('names a file that is not there', async () => {
    await assert.rejects(readSafetensorsHeader(path.join(folder, 'none')), {
      code: 'FILE_MISSING',
      message: /none/,
    })
  })
})

describe('checkpoint', () => {
  let folder: string
  const one = encodeSafetensors([['w', { shape: [1, 2], values: Float32Array.of(1, 2) }]])
  const two = encodeSafetensors([['v', { shape: [3], values: Float32Array.of(3, 4, 5) }]])
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'gym-test-'))
  })
  after(() => rm(folder, { recursive: true, force: true }))

  const modelFolder = async (name: string, files: Record<string, Uint8Array | string>): Promise<string> => {
    const at = path.join(folder, name)
    await mkdir(at, { recursive: true })
    for (const [file, content] of Object.entries(files)) await writeFile(path.join(at, file), content)
    return at
  }

  it('follows symbolic links, as in a download cache', async () => {
    const blobs = await modelFolder('blobs', { abc123: one })
    const snapshot = await modelFolder('snapshot', {})
    await symlink(path.join(blobs, 'abc123'), path.join(snapshot, 'model.safetensors'))
    const source = (await openCheckpoint(snapshot)).get('w', [1, 2])
    assert.equal(path.basename(source.file), 'abc123')
    const bytes = (await readFile(source.file)).subarray(source.offset, source.offset + source.byteLength)
    assert.deepEqual([...new Float32Array(new Uint8Array(bytes).buffer)], [1, 2])
  })

  it('joins the files of an index', async () => {
    const index = JSON.stringify({ weight_map: { w: 'one.safetensors', v: 'two.safetensors' } })
    const at = await modelFolder('sharded', {
      'model.safetensors.index.json': index,
      'one.safetensors': one,
      'two.safetensors': two,
    })
    const checkpoint = await openCheckpoint(at)
    assert.equal(checkpoint.parameters, 5)
    assert.ok(checkpoint.has('w') && checkpoint.has('v') && !checkpoint.has('u'))
  })

  it('says which file of an index is missing', async () => {
    const index = JSON.stringify({ weight_map: { w: 'gone.safetensors' } })
    const at = await modelFolder('gone', { 'model.safetensors.index.json': index })
    await assert.rejects(openCheckpoint(at), { code: 'FILE_MISSING', message: /gone\.safetensors/ })
  })

  it('refuses an index that points out of its folder', async () => {
    const index = JSON.stringify({ weight_map: { w: '../one.safetensors' } })
    const at = await modelFolder('outside', { 'model.safetensors.index.json': index })
    await assert.rejects(openCheckpoint(at), { code: 'BAD_SAFETENSORS', message: /model's folder/ })
  })

  it('names a folder without weights, a missing tensor and a wrong shape', async () => {
    await assert.rejects(openCheckpoint(await modelFolder('empty', {})), {
      code: 'FILE_MISSING',
      message: /neither/,
    })
    const checkpoint = await openCheckpoint(await modelFolder('plain', { 'model.safetensors': one }))
    assert.throws(() => checkpoint.get('u', [1]), { code: 'TENSOR_MISSING', message: /no tensor u/ })
    assert.throws(() => checkpoint.get('w', [2, 2]), { code: 'TENSOR_SHAPE', message: /\[1, 2\].*\[2, 2\]/ })
  })

  it('hashes the files one after the other', async () => {
    const at = await modelFolder('hashed', { a: 'a', b: 'bc' })
    // SHA-256 of "abc", FIPS 180-2 appendix B.1.
    assert.equal(
      await hashFiles([path.join(at, 'a'), path.join(at, 'b')]),
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    )
  })
})
