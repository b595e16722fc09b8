/** ML-KEM-768: OpenSSL against published accumulated vectors and @noble/post-quantum, both ways. */
import assert from 'node:assert/strict'
import { decapsulate, encapsulate } from 'node:crypto'
import { describe, it } from 'node:test'
import { shake128 } from '@noble/hashes/sha3.js'
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js'
import { exportPublicKey, importPublicKey, importSeed } from '../src/native-keys.ts'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

describe('ML-KEM-768', () => {
  it('gives the accumulated vectors of Go crypto/mlkem for 100 keys, implicit rejection included', () => {
    // Go src/crypto/mlkem/mlkem_test.go, TestAccumulated (-short), after C2SP/CCTV. Keys and decapsulation are OpenSSL's;
    // encapsulation with chosen randomness is @noble/post-quantum's, since OpenSSL does not offer it through Node.
    const input = shake128.create({})
    const output = shake128.create({})
    for (let i = 0; i < 100; i++) {
      const key = importSeed('ml-kem-768', input.xof(64))
      const publicKey = exportPublicKey('ml-kem-768', key)
      const { cipherText, sharedSecret } = ml_kem768.encapsulate(publicKey, input.xof(32))
      assert.equal(hex(decapsulate(key, cipherText)), hex(sharedSecret))
      const rejected = decapsulate(key, input.xof(1088))
      output.update(publicKey).update(cipherText).update(sharedSecret).update(rejected)
    }
    assert.equal(hex(output.xof(32)), '1114b1b6699ed191734fa339376afa7e285c9e6acf6ff0177d346696ce564415')
  })

  it('encapsulates to keys of @noble/post-quantum', () => {
    const { publicKey, secretKey } = ml_kem768.keygen(new Uint8Array(64).fill(9))
    const { sharedKey, ciphertext } = encapsulate(importPublicKey('ml-kem-768', publicKey))
    assert.equal(hex(ml_kem768.decapsulate(ciphertext, secretKey)), hex(sharedKey))
  })
})

describe('importPublicKey and importSeed', () => {
  it('refuse wrong lengths, naming both', () => {
    assert.throws(() => importPublicKey('ed25519', new Uint8Array(31)), {
      code: 'BAD_KEY',
      message: /31 bytes, expected 32/,
    })
    assert.throws(() => importSeed('ml-kem-768', new Uint8Array(32)), {
      code: 'BAD_KEY',
      message: /32 bytes, expected 64/,
    })
  })

  it('refuse an ML-KEM key whose coefficients are not reduced (FIPS 203, 7.2)', () => {
    const outOfRange = new Uint8Array(1184).fill(0xff)
    assert.throws(() => encapsulate(importPublicKey('ml-kem-768', outOfRange)))
  })
})
