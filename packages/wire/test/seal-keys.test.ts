/** The key schedule: HKDF-SHA-256 against RFC 5869, and our use of it against @noble/hashes. */
import assert from 'node:assert/strict'
import { hkdfSync } from 'node:crypto'
import { describe, it } from 'node:test'
import { hkdf } from '@noble/hashes/hkdf.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { confirmationTag, deriveSchedule, nextKey } from '../src/seal-keys.ts'

const hex = (bytes: Uint8Array | ArrayBuffer): string => Buffer.from(bytes as Uint8Array).toString('hex')
const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

describe('HKDF-SHA-256 under the schedule', () => {
  it('is RFC 5869, appendix A, test cases 1 and 3', () => {
    const ikm = unhex('0b'.repeat(22))
    assert.equal(
      hex(hkdfSync('sha256', ikm, unhex('000102030405060708090a0b0c'), unhex('f0f1f2f3f4f5f6f7f8f9'), 42)),
      '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
    )
    assert.equal(
      hex(hkdfSync('sha256', ikm, new Uint8Array(0), new Uint8Array(0), 42)),
      '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
    )
  })
})

describe('deriveSchedule', () => {
  it('cuts one HKDF output into keys and ivs, as @noble/hashes computes it', () => {
    const secret = new Uint8Array(32).fill(1)
    const transcript = new Uint8Array(32).fill(2)
    const okm = hkdf(sha256, secret, transcript, utf8('gym-seal-v1 keys'), 152)
    const s = deriveSchedule(secret, transcript)
    assert.equal(
      hex(
        Buffer.concat([
          s.initiatorToResponder.key,
          s.initiatorToResponder.iv,
          s.responderToInitiator.key,
          s.responderToInitiator.iv,
          s.initiatorConfirmKey,
          s.responderConfirmKey,
        ]),
      ),
      hex(okm),
    )
  })
})

describe('nextKey', () => {
  it('is HKDF of the old key, salted with the generation', () => {
    const key = new Uint8Array(32).fill(3)
    const expected = hkdf(sha256, key, unhex('0500000000000000'), utf8('gym-seal-v1 rekey'), 32)
    assert.equal(hex(nextKey(key, 5)), hex(expected))
  })
})

describe('confirmationTag', () => {
  it('is HMAC-SHA-256 over transcript and signature', () => {
    const [key, transcript, signature] = [
      unhex('aa'.repeat(32)),
      unhex('bb'.repeat(32)),
      unhex('cc'.repeat(99)),
    ]
    const expected = hmac(sha256, key, new Uint8Array(Buffer.concat([transcript, signature])))
    assert.equal(hex(confirmationTag(key, transcript, signature)), hex(expected))
  })
})
