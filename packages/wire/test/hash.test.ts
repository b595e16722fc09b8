/** SHA3-256 against the standard's own example values and an independent implementation. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { sha3_256 as nobleSha3 } from '@noble/hashes/sha3.js'
import fc from 'fast-check'
import { sha3_256, sha3_256Stream } from '@gym-node/wire'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

describe('sha3_256', () => {
  // NIST "Examples with Intermediate Values", SHA3-256_Msg0.pdf and SHA3-256_1600.pdf; "abc" from FIPS 202's CAVP set.
  const vectors: [string, Uint8Array, string][] = [
    [
      'the empty message',
      new Uint8Array(0),
      'a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a',
    ],
    ['"abc"', Buffer.from('abc'), '3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532'],
    [
      '1600 bits of 0xa3',
      new Uint8Array(200).fill(0xa3),
      '79f38adec5c20307a98ef76e8324afbfd46cfd81b22e3973c65fa1bd9de31787',
    ],
  ]
  for (const [what, message, expected] of vectors) {
    it(`agrees with NIST on ${what}`, () => {
      assert.equal(hex(sha3_256(message)), expected)
    })
  }

  it('agrees with @noble/hashes on any message, in one part or several', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 5 }), (parts) => {
        const expected = hex(nobleSha3(Buffer.concat(parts)))
        assert.equal(hex(sha3_256(...parts)), expected)
        const stream = sha3_256Stream()
        for (const part of parts) stream.update(part)
        assert.equal(hex(stream.digest()), expected)
      }),
      { seed: 20260101 },
    )
  })
})
