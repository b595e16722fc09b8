/** The pull reader: exact reads over any chunking, and its promises about memory and endings. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { ByteReader } from '../src/byte-reader.ts'

describe('ByteReader', () => {
  it('gives the same bytes whatever the chunks are, and shows each byte once to the observer', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ maxLength: 20 })),
        fc.array(fc.nat(30)),
        async (chunks, lengths) => {
          const whole = Buffer.concat(chunks)
          const reader = new ByteReader(chunks)
          const seen: Uint8Array[] = []
          reader.observer = (bytes) => void seen.push(Uint8Array.from(bytes))
          let offset = 0
          for (const length of lengths) {
            if (offset + length > whole.length) {
              await assert.rejects(reader.read(length, 'it'), { code: 'TRUNCATED' })
              return
            }
            assert.equal(
              Buffer.compare(await reader.read(length, 'it'), whole.subarray(offset, offset + length)),
              0,
            )
            offset += length
            assert.equal(reader.offset, offset)
            assert.equal(Buffer.compare(Buffer.concat(seen), whole.subarray(0, offset)), 0)
          }
          assert.equal(await reader.isAtEnd(), offset === whole.length)
        },
      ),
      { seed: 20260107 },
    )
  })

  it('does not allocate what a false length asks for', async () => {
    const before = process.memoryUsage().arrayBuffers
    await assert.rejects(new ByteReader([new Uint8Array(10)]).read(2 ** 40, 'a lie'), {
      code: 'TRUNCATED',
      message: `the file ends ${2 ** 40 - 10} bytes before the end of a lie (${2 ** 40} bytes)`,
    })
    assert.ok(process.memoryUsage().arrayBuffers - before < 1 << 20)
  })
})
