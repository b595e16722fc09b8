/** Compression frames: real ones of the command line tools' formats, lying ones, and bombs. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { zstdCompressSync, constants } from 'node:zlib'
import { compressFrameSync } from 'lz4-napi'
import { compressTensor, decompressTensor, maxStoredBytes } from '../src/compression.ts'
import { requireLz4Frame } from '../src/lz4-frame.ts'
import { requireZstdFrame } from '../src/zstd-frame.ts'
import { normals } from './samples.ts'

const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))
const COMPRESSIONS = ['lz4', 'zstd'] as const
const bytesOf = (count: number): Uint8Array =>
  new Uint8Array(normals(Math.ceil(count / 4), 7).buffer).subarray(0, count)
const refused = { code: 'BAD_COMPRESSION' }

/** LZ4 frame: magic, FLG, BD, [content size], HC, blocks, end mark. HC is not checked by the walk but by the library. */
function lz4Frame(flags: number, descriptor: number, blocks: Uint8Array[], size?: bigint): Uint8Array {
  const head = Buffer.from([0x04, 0x22, 0x4d, 0x18, flags, descriptor])
  const content = Buffer.alloc(size === undefined ? 0 : 8)
  if (size !== undefined) content.writeBigUInt64LE(size)
  const sized = blocks.map((block) => {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(block.length)
    return Buffer.concat([length, block])
  })
  return Buffer.concat([head, content, Buffer.of(0), ...sized, Buffer.alloc(4)])
}

describe('compressTensor and decompressTensor', () => {
  for (const compression of COMPRESSIONS) {
    it(`round-trip ${compression} at sizes around block and size-field boundaries`, async () => {
      for (const size of [
        1,
        2,
        255,
        256,
        257,
        65535,
        65536,
        65791,
        65792,
        70000,
        (4 << 20) - 1,
        4 << 20,
        (4 << 20) + 1,
      ]) {
        for (const packed of [bytesOf(size), new Uint8Array(size)]) {
          const stored = await compressTensor(compression, packed)
          assert.ok(stored.length <= maxStoredBytes(compression, size))
          assert.equal(Buffer.compare(await decompressTensor(compression, stored, size), packed), 0)
        }
      }
    })

    it(`refuse ${compression} data of another size than the shape says, cut or followed by more`, async () => {
      const stored = await compressTensor(compression, bytesOf(1000))
      await assert.rejects(decompressTensor(compression, stored, 999), refused)
      await assert.rejects(decompressTensor(compression, stored, 1001), refused)
      for (let cut = 0; cut < stored.length; cut += 13) {
        await assert.rejects(decompressTensor(compression, stored.subarray(0, cut), 1000), refused)
      }
      await assert.rejects(decompressTensor(compression, Buffer.concat([stored, stored]), 1000), refused)
      await assert.rejects(
        decompressTensor(compression, Buffer.concat([stored, Buffer.of(0)]), 1000),
        refused,
      )
      await assert.rejects(decompressTensor(compression, Buffer.concat([stored, stored]), 2000), refused)
    })
  }

  it('read what the lz4 1.9.4 and zstd 1.5.4 command line tools wrote', async () => {
    // printf 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' | lz4 -c --content-size, and | zstd -c: hex of their output.
    const text = Buffer.from('a'.repeat(32))
    for (const [compression, frame] of Object.entries(TOOL_FRAMES)) {
      const packed = await decompressTensor(compression as 'lz4' | 'zstd', unhex(frame), 32)
      assert.deepEqual(Buffer.from(packed), text)
    }
  })

  it('refuse a bomb before unpacking it: a megabyte of zeros where a kilobyte belongs', async () => {
    const zeros = Buffer.alloc(1 << 20)
    await assert.rejects(decompressTensor('zstd', zstdCompressSync(zeros), 1024), {
      ...refused,
      message: /says 1048576 bytes/,
    })
    await assert.rejects(decompressTensor('lz4', compressFrameSync(zeros), 1024), refused)
  })

  it('refuse a bomb whose frame lies about its size', async () => {
    const bomb = Buffer.from(zstdCompressSync(Buffer.alloc(1 << 20)))
    bomb.writeUInt32LE(1024, 5)
    await assert.rejects(decompressTensor('zstd', bomb, 1024), refused)
    const withoutSize = zstdCompressSync(Buffer.alloc(1 << 20), {
      params: { [constants.ZSTD_c_contentSizeFlag]: 0 },
    })
    await assert.rejects(decompressTensor('zstd', withoutSize, 1024), { ...refused, message: /does not say/ })
  })

  it('refuse damaged contents of a sound frame', async () => {
    const stored = Buffer.from(
      await compressTensor(
        'zstd',
        new Uint8Array(5000).map((_, i) => i % 7),
      ),
    )
    stored.fill(0xff, 12, 20)
    await assert.rejects(decompressTensor('zstd', stored, 5000), refused)
  })
})

const TOOL_FRAMES = {
  lz4: '04224d186c402000000000000000c60b0000001f6101000750616161616100000000be4f23a3',
  zstd: '28b52ffd2420450000106161010022c002d79af998',
}

describe('requireLz4Frame', () => {
  const block = Uint8Array.of(0x10, 0x61)

  it('refuses other magics, versions, dictionaries, reserved bits and block sizes', () => {
    requireLz4Frame(lz4Frame(0x60, 0x40, [block]), 1)
    assert.throws(() => requireLz4Frame(unhex('50 2a4d18 04 00000061 00'.replaceAll(' ', '')), 1), refused)
    for (const [flags, descriptor] of [
      [0x20, 0x40],
      [0x61, 0x40],
      [0x62, 0x40],
      [0x60, 0x30],
      [0x60, 0xc0],
      [0x60, 0x41],
    ] as const) {
      assert.throws(
        () => requireLz4Frame(lz4Frame(flags, descriptor, [block]), 1),
        refused,
        `${flags} ${descriptor}`,
      )
    }
  })

  it('refuses a false content size and more blocks than the content fills', () => {
    requireLz4Frame(lz4Frame(0x68, 0x40, [block], 1n), 1)
    assert.throws(() => requireLz4Frame(lz4Frame(0x68, 0x40, [block], 2n), 1), refused)
    assert.throws(() => requireLz4Frame(lz4Frame(0x68, 0x40, [block], 2n ** 64n - 1n), 1), refused)
    assert.throws(() => requireLz4Frame(lz4Frame(0x60, 0x40, [block, block]), 65536), {
      ...refused,
      message: /more than the 1 blocks/,
    })
    requireLz4Frame(lz4Frame(0x60, 0x40, [block, block]), 65537)
  })

  it('refuses a block that reaches past the end', () => {
    const frame = Buffer.from(lz4Frame(0x60, 0x40, [block]))
    frame.writeUInt32LE(0x7fffffff, 7)
    assert.throws(() => requireLz4Frame(frame, 1), refused)
  })
})

describe('requireZstdFrame', () => {
  // Single segment, 1-byte content size 1, last raw block of 1 byte (RFC 8878, 3.1.1): hand-written.
  const one = unhex('28b52ffd' + '20' + '01' + '090000' + '61')

  it('accepts a hand-written frame and refuses each change of its form', () => {
    requireZstdFrame(one, 1)
    const changes: [number, number][] = [
      [0, 0x29],
      [4, 0x28],
      [4, 0x21],
      [4, 0x00],
      [5, 2],
      [6, 0x0f],
      [6, 0x08],
      [7, 0xff],
      [4, 0x24],
    ]
    for (const [at, value] of changes) {
      assert.throws(() => requireZstdFrame(one.with(at, value), 1), refused, `${at} ${value}`)
    }
  })

  it('refuses a window over 128 MiB', () => {
    const frame = unhex('28b52ffd' + '80' + '90' + '01000000' + '090000' + '61')
    assert.throws(() => requireZstdFrame(frame, 1), { ...refused, message: /window/ })
    requireZstdFrame(frame.with(5, 0x88), 1)
  })
})
