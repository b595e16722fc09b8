/** Sealed frames: AES-256-GCM against NIST's vector and @noble/ciphers, and every way a stream of frames can be tampered with. */
import assert from 'node:assert/strict'
import { createCipheriv } from 'node:crypto'
import { describe, it } from 'node:test'
import { gcm } from '@noble/ciphers/aes.js'
import fc from 'fast-check'
import type { DirectionKey } from '@gym-node/wire'
import {
  FRAME_HEADER_BYTES,
  FRAME_TAG_BYTES,
  frameBytes,
  FrameOpener,
  FrameSealer,
  MAX_FRAME_PAYLOAD_BYTES,
  decodeFrameHeader,
} from '@gym-node/wire'
import { REKEY_FRAMES } from '../src/defaults.ts'
import { nextKey } from '../src/seal-keys.ts'

const KEY: DirectionKey = {
  key: new Uint8Array(32).fill(5),
  iv: Uint8Array.from({ length: 12 }, (_, i) => 240 + i),
}
const HEADER = { kind: 7, move: 513, round: 70000, chunk: 9 }
const LIMITS = { maxPayloadBytes: 1 << 20 }
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))

/** The header, and what is behind it: ciphertext and tag. */
const parts = (frame: Uint8Array): [Uint8Array, Uint8Array] => [
  frame.subarray(0, FRAME_HEADER_BYTES),
  frame.subarray(FRAME_HEADER_BYTES),
]
const nonceOf = (frame: bigint): Uint8Array => {
  const counter = unhex(frame.toString(16).padStart(24, '0'))
  return KEY.iv.map((byte, i) => byte ^ (counter[i] ?? 0))
}

describe('AES-256-GCM in this Node', () => {
  it('is that of McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test case 16', () => {
    const cipher = createCipheriv(
      'aes-256-gcm',
      unhex('feffe9928665731c6d6a8f9467308308'.repeat(2)),
      unhex('cafebabefacedbaddecaf888'),
      { authTagLength: 16 },
    )
    cipher.setAAD(unhex('feedfacedeadbeeffeedfacedeadbeefabaddad2'))
    const plain = unhex(
      'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39',
    )
    const sealed = Buffer.concat([cipher.update(plain), cipher.final()])
    assert.equal(
      hex(sealed),
      '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662',
    )
    assert.equal(hex(cipher.getAuthTag()), '76fc6ece0f4e1768cddf8853bb2d551b')
  })
})

describe('FrameSealer', () => {
  it('seals frame n as @noble/ciphers does with nonce iv XOR n and the header as associated data', () => {
    const sealer = new FrameSealer(KEY)
    for (let n = 0n; n < 300n; n++) {
      const payload = new Uint8Array(Number(n % 40n)).fill(Number(n))
      const [header, sealed] = parts(sealer.seal(HEADER, payload))
      assert.equal(hex(sealed), hex(gcm(KEY.key, nonceOf(n), header).encrypt(payload)))
    }
  })

  it('writes the header little-endian, in the order of the contract', () => {
    const [header] = parts(new FrameSealer(KEY).seal(HEADER, new Uint8Array(300)))
    assert.equal(hex(header), '07' + '00' + '0102' + '70110100' + '09000000' + '2c010000')
  })

  it('leaves the payload as it was', () => {
    const payload = new Uint8Array(64).fill(3)
    new FrameSealer(KEY).seal(HEADER, payload)
    assert.deepEqual(payload, new Uint8Array(64).fill(3))
  })

  it('refuses fields that do not fit, without spending a nonce', () => {
    const sealer = new FrameSealer(KEY)
    for (const bad of [{ kind: 256 }, { move: 65536 }, { round: 2 ** 32 }, { chunk: -1 }, { kind: 1.5 }]) {
      assert.throws(() => sealer.seal({ ...HEADER, ...bad }, new Uint8Array(0)), { code: 'BAD_ARGUMENT' })
    }
    assert.throws(() => sealer.seal(HEADER, new Uint8Array(MAX_FRAME_PAYLOAD_BYTES + 1)), {
      code: 'BAD_ARGUMENT',
    })
    assert.throws(() => sealer.seal(HEADER, Uint8Array.of(1), new Uint8Array(32)), { code: 'BAD_ARGUMENT' })
    const [header, sealed] = parts(sealer.seal(HEADER, Uint8Array.of(1)))
    assert.equal(hex(sealed), hex(gcm(KEY.key, nonceOf(0n), header).encrypt(Uint8Array.of(1))))
  })

  it('steps the key forward after 65536 frames, and the opener with it', () => {
    const sealer = new FrameSealer(KEY)
    const opener = new FrameOpener(KEY, LIMITS)
    const payload = Uint8Array.of(1, 2, 3)
    for (let n = 0; n < REKEY_FRAMES; n++) opener.open(sealer.seal(HEADER, payload))
    const frame = sealer.seal(HEADER, payload)
    const [header, sealed] = parts(frame)
    assert.equal(hex(sealed), hex(gcm(nextKey(KEY.key, 1), nonceOf(65536n), header).encrypt(payload)))
    assert.deepEqual(Uint8Array.from(opener.open(frame)), payload)
  })
})

describe('FrameOpener', () => {
  it('opens what was sealed, in order, for any headers and payloads', () => {
    const frame = fc.record({
      kind: fc.nat(255),
      move: fc.nat(65535),
      round: fc.nat(2 ** 31 - 1),
      chunk: fc.nat(2 ** 31 - 1),
      payload: fc.uint8Array({ maxLength: 200 }),
    })
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 8 }), (frames) => {
        const sealer = new FrameSealer(KEY)
        const opener = new FrameOpener(KEY, LIMITS)
        for (const { payload, ...header } of frames) {
          const sealed = sealer.seal(header, payload)
          assert.deepEqual(opener.readHeader(parts(sealed)[0]), { ...header, length: payload.length })
          assert.deepEqual(Uint8Array.from(opener.open(sealed)), payload)
        }
      }),
      { seed: 20260104 },
    )
  })

  it('refuses a frame with any one bit changed, and then everything', () => {
    const sealed = new FrameSealer(KEY).seal(HEADER, new Uint8Array(20).fill(9))
    for (let bit = 0; bit < 8 * sealed.length; bit++) {
      const changed = Uint8Array.from(sealed)
      changed[bit >> 3] ^= 1 << (bit & 7)
      const opener = new FrameOpener(KEY, LIMITS)
      assert.throws(() => opener.open(changed), { name: 'WireError' }, `bit ${bit}`)
      assert.throws(() => opener.open(sealed), { code: 'BAD_FRAME', message: /already failed/ })
    }
  })

  it('refuses repeated, lost and reordered frames, and frames of the other direction', () => {
    const sealer = new FrameSealer(KEY)
    const [first, second] = [1, 2].map((value) => sealer.seal(HEADER, Uint8Array.of(value)))
    const repeated = new FrameOpener(KEY, LIMITS)
    repeated.open(first)
    assert.throws(() => repeated.open(first), { code: 'BAD_FRAME' })
    assert.throws(() => new FrameOpener(KEY, LIMITS).open(second), { code: 'BAD_FRAME' })
    const otherDirection = new FrameOpener({ key: KEY.key.map((b) => b ^ 1), iv: KEY.iv }, LIMITS)
    assert.throws(() => otherDirection.open(first), { code: 'BAD_FRAME' })
  })

  it('refuses frames that are shorter or longer than their header says', () => {
    const sealed = new FrameSealer(KEY).seal(HEADER, new Uint8Array(20))
    for (const wrong of [sealed.subarray(0, -1), sealed.subarray(0, 16), Buffer.concat([sealed, sealed])]) {
      assert.throws(() => new FrameOpener(KEY, LIMITS).open(wrong), { code: 'BAD_FRAME' })
    }
  })

  it('opens and seals where it is told, which may be where the bytes lie already', () => {
    const payload = Uint8Array.from({ length: 5000 }, (_, i) => i % 251)
    const expected = new FrameSealer(KEY).seal(HEADER, payload)
    const memory = new Uint8Array(frameBytes(payload.length))
    memory.set(payload, FRAME_HEADER_BYTES)
    const inside = memory.subarray(FRAME_HEADER_BYTES, -FRAME_TAG_BYTES)
    assert.equal(new FrameSealer(KEY).seal(HEADER, inside, memory), memory)
    assert.deepEqual(memory, Uint8Array.from(expected))
    const room = new Uint8Array(payload.length)
    assert.equal(new FrameOpener(KEY, LIMITS).open(memory, room), room)
    assert.deepEqual(room, payload)
    assert.throws(() => new FrameOpener(KEY, LIMITS).open(memory, room.subarray(1)), { code: 'BAD_ARGUMENT' })
  })

  it('refuses a length over its limit from the header alone', () => {
    const header = new Uint8Array(FRAME_HEADER_BYTES).fill(0xff, 12)
    assert.throws(() => new FrameOpener(KEY, { maxPayloadBytes: 1000 }).readHeader(header), {
      code: 'LIMIT_EXCEEDED',
      message: 'frame is 4294967295 bytes, limit 1000',
    })
    assert.throws(() => new FrameOpener(KEY, { maxPayloadBytes: 2 ** 40 }).readHeader(header), {
      code: 'LIMIT_EXCEEDED',
    })
    assert.throws(() => decodeFrameHeader(new Uint8Array(15), 1), { code: 'BAD_FRAME' })
    assert.throws(() => decodeFrameHeader(new Uint8Array(16).with(1, 1), 1), {
      code: 'BAD_FRAME',
      message: /byte 1/,
    })
  })

  it('refuses keys of the wrong size', () => {
    assert.throws(() => new FrameSealer({ key: new Uint8Array(16), iv: KEY.iv }), { code: 'BAD_ARGUMENT' })
  })
})
