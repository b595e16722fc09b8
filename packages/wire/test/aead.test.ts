/** The two engines of AES-256-GCM: each against @noble/ciphers, so that it does not matter which one a peer has. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, it } from 'node:test'
import { gcm } from '@noble/ciphers/aes.js'
import { aeadEngine, FrameSealer } from '@gym-node/wire'
import { AEAD_TAG_BYTES, type AeadEngine } from '../src/aead.ts'
import { nodeEngine } from '../src/aead-node.ts'
import { opensslEngine } from '../src/aead-openssl.ts'

const KEY = Uint8Array.from({ length: 32 }, (_, i) => i)
const NONCE = Uint8Array.from({ length: 12 }, (_, i) => 100 + i)
const HEADER = Uint8Array.from({ length: 16 }, (_, i) => 200 + i)

const bytesOf = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7) % 256)

const openssl = opensslEngine()
const engines: [string, AeadEngine | null][] = [
  ['node', nodeEngine],
  ['openssl', openssl],
]

for (const [name, engine] of engines) {
  const skip = engine === null && 'koffi has no library for this platform, or this Node exports no OpenSSL'
  describe(`AES-256-GCM by ${name}`, { skip }, () => {
    const { sealer, opener } = engine ?? nodeEngine

    for (const length of [0, 1, 15, 16, 17, 4096, 70_001]) {
      it(`seals and opens ${length} bytes as @noble/ciphers does, elsewhere and in place`, () => {
        const plaintext = bytesOf(length)
        const expected = gcm(KEY, NONCE, HEADER).encrypt(plaintext)
        const seal = sealer(KEY)
        const out = new Uint8Array(length + AEAD_TAG_BYTES)
        seal(NONCE, HEADER, plaintext, out)
        assert.deepEqual(out, expected)
        const inPlace = new Uint8Array(length + AEAD_TAG_BYTES)
        inPlace.set(plaintext)
        seal(NONCE, HEADER, inPlace.subarray(0, length), inPlace)
        assert.deepEqual(inPlace, expected)
        const back = new Uint8Array(length)
        assert.ok(opener(KEY)(NONCE, HEADER, expected, back))
        assert.deepEqual(back, plaintext)
      })
    }

    it('opens nothing with one bit changed, and the next message all the same', () => {
      const plaintext = bytesOf(40)
      const sealed = gcm(KEY, NONCE, HEADER).encrypt(plaintext)
      const open = opener(KEY)
      const back = new Uint8Array(40)
      for (const bit of [0, 100, 319, 320, 447]) {
        const changed = Uint8Array.from(sealed)
        changed[bit >> 3] ^= 1 << (bit & 7)
        assert.equal(open(NONCE, HEADER, changed, back), false)
      }
      assert.equal(open(NONCE.with(0, 1), HEADER, sealed, back), false)
      assert.equal(open(NONCE, HEADER.with(0, 1), sealed, back), false)
      assert.equal(opener(KEY.with(0, 1))(NONCE, HEADER, sealed, back), false)
      assert.ok(open(NONCE, HEADER, sealed, back))
      assert.deepEqual(back, plaintext)
    })

    it('does not read or write beyond what it is given', () => {
      const seal = sealer(KEY)
      const open = opener(KEY)
      const wrong = { code: 'BAD_ARGUMENT' }
      assert.throws(() => seal(NONCE, HEADER, bytesOf(20), new Uint8Array(35)), wrong)
      assert.throws(() => seal(NONCE.subarray(1), HEADER, bytesOf(20), new Uint8Array(36)), wrong)
      assert.throws(() => open(NONCE, HEADER, bytesOf(36), new Uint8Array(19)), wrong)
      for (const length of [0, 4, 10, 15]) {
        assert.throws(() => seal(NONCE, HEADER, bytesOf(0), new Uint8Array(length)), wrong)
        assert.throws(() => seal(NONCE, HEADER, bytesOf(4), new Uint8Array(length)), wrong)
        assert.throws(() => open(NONCE, HEADER, bytesOf(length), new Uint8Array(0)), wrong)
      }
      assert.throws(() => open(NONCE, HEADER, bytesOf(15), new Uint8Array(14)), wrong)
      assert.throws(() => open(NONCE.subarray(1), HEADER, bytesOf(36), new Uint8Array(20)), wrong)
      assert.throws(() => sealer(KEY.subarray(1)), wrong)
      assert.throws(() => opener(KEY.subarray(1)), wrong)
    })

    it('keeps a key that is wiped afterwards', () => {
      const key = Uint8Array.from(KEY)
      const seal = sealer(key)
      key.fill(0)
      const out = new Uint8Array(AEAD_TAG_BYTES)
      seal(NONCE, HEADER, new Uint8Array(0), out)
      assert.deepEqual(out, gcm(KEY, NONCE, HEADER).encrypt(new Uint8Array(0)))
    })
  })
}

describe('the engine of this process', () => {
  it('is OpenSSL wherever that can be called', () => {
    assert.equal(aeadEngine().name, openssl === null ? 'node' : 'openssl')
  })

  it('is node:crypto without koffi, and frames are the same', () => {
    const code = `
      import { registerHooks } from 'node:module'
      registerHooks({
        resolve: (name, context, next) => {
          if (name === 'koffi') throw new Error('not installed')
          return next(name, context)
        },
      })
      const { aeadEngine, frameBytes, FrameOpener, FrameSealer } = await import('@gym-node/wire')
      const key = { key: new Uint8Array(32).fill(7), iv: new Uint8Array(12).fill(8) }
      const frame = new Uint8Array(frameBytes(5000)).fill(9)
      new FrameSealer(key).seal({ kind: 1, move: 2, round: 3, chunk: 4 }, frame.subarray(16, -16), frame)
      const room = new Uint8Array(5000)
      new FrameOpener(key, { maxPayloadBytes: 5000 }).open(frame, room)
      const isBack = room.every((byte) => byte === 9)
      console.log(aeadEngine().name, isBack, Buffer.from(frame).toString('base64'))`
    const { stdout, stderr } = spawnSync(
      process.execPath,
      ['--conditions=gym-source', '--input-type=module', '--eval', code],
      { cwd: import.meta.dirname, encoding: 'utf8' },
    )
    const key = { key: new Uint8Array(32).fill(7), iv: new Uint8Array(12).fill(8) }
    const header = { kind: 1, move: 2, round: 3, chunk: 4 }
    const frame = new FrameSealer(key).seal(header, new Uint8Array(5000).fill(9))
    assert.equal(stdout.trim(), `node true ${Buffer.from(frame).toString('base64')}`, stderr)
  })
})
