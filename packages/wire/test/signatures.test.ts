/** Ed25519 against RFC 8032, ML-DSA-87 against published accumulated vectors and @noble/post-quantum, both ways. */
import assert from 'node:assert/strict'
import { sign } from 'node:crypto'
import { describe, it } from 'node:test'
import { shake128 } from '@noble/hashes/sha3.js'
import { ml_dsa87 } from '@noble/post-quantum/ml-dsa.js'
import { verifyEd25519, verifyMlDsa87 } from '@gym-node/wire'
import { exportPublicKey, importSeed } from '../src/native-keys.ts'

const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

describe('Ed25519', () => {
  // RFC 8032, section 7.1, TEST 1 to 3: secret key, public key, message, signature.
  const vectors = [
    [
      '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
      'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
      '',
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
    ],
    [
      '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
      '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
      '72',
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
    ],
    [
      'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
      'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
      'af82',
      '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
    ],
  ] as const

  it('signs and verifies as RFC 8032, section 7.1', () => {
    for (const [seed, publicKey, message, signature] of vectors) {
      const key = importSeed('ed25519', unhex(seed))
      assert.equal(hex(exportPublicKey('ed25519', key)), publicKey)
      assert.equal(hex(sign(null, unhex(message), key)), signature)
      assert.ok(verifyEd25519(unhex(publicKey), unhex(message), unhex(signature)))
    }
  })

  it('refuses an altered message, signature or key, and wrong lengths', () => {
    const [, publicKey, message, signature] = vectors[2]
    const flip = (bytes: Uint8Array, bit: number): Uint8Array =>
      bytes.with(bit >> 3, (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7)))
    assert.ok(!verifyEd25519(unhex(publicKey), unhex('af83'), unhex(signature)))
    for (let bit = 0; bit < 512; bit += 7)
      assert.ok(!verifyEd25519(unhex(publicKey), unhex(message), flip(unhex(signature), bit)))
    for (let bit = 0; bit < 256; bit += 7)
      assert.ok(!verifyEd25519(flip(unhex(publicKey), bit), unhex(message), unhex(signature)))
    assert.ok(!verifyEd25519(unhex(publicKey), unhex(message), unhex(signature).subarray(1)))
    assert.ok(!verifyEd25519(unhex(publicKey).subarray(1), unhex(message), unhex(signature)))
  })

  it('refuses the second spelling of a signature, S + L (RFC 8032, section 8.4)', () => {
    const [, publicKey, message, text] = vectors[1]
    const signature = unhex(text)
    const order = 2n ** 252n + 27742317777372353535851937790883648493n
    let s = BigInt(`0x${hex(signature.slice(32).reverse())}`) + order
    for (let i = 32; i < 64; i++, s >>= 8n) signature[i] = Number(s & 0xffn)
    assert.ok(!verifyEd25519(unhex(publicKey), unhex(message), signature))
  })

  it('refuses keys of small order, under which one signature fits every message', () => {
    // The point (0, 1): A is the identity, so R = identity and S = 0 satisfy S*B = R + k*A for every k.
    const identityPoint = unhex('01' + '00'.repeat(31))
    const signature = unhex('01' + '00'.repeat(63))
    for (const message of ['a', 'b'])
      assert.ok(!verifyEd25519(identityPoint, Buffer.from(message), signature))
  })
})

describe('ML-DSA-87', () => {
  it('gives the accumulated vectors of Go crypto/mldsa for 100 keys, keys by OpenSSL, verified by OpenSSL', () => {
    // Go 1.26 crypto/internal/fips140test/mldsa_test.go, TestAccumulated, "ML-DSA-87/100": seeds from SHAKE128 of
    // nothing; public key and deterministic signature of the empty message go into a second SHAKE128.
    const seeds = shake128.create({})
    const output = shake128.create({})
    for (let i = 0; i < 100; i++) {
      const seed = seeds.xof(32)
      const publicKey = exportPublicKey('ml-dsa-87', importSeed('ml-dsa-87', seed))
      const signature = ml_dsa87.sign(new Uint8Array(0), ml_dsa87.keygen(seed).secretKey, {
        extraEntropy: false,
      })
      assert.ok(verifyMlDsa87(publicKey, new Uint8Array(0), signature))
      output.update(publicKey).update(signature)
    }
    assert.equal(hex(output.xof(32)), '8c3ad714777622b8f21ce31bb35f71394f23bc0fcf3c78ace5d608990f3b061b')
  })

  it('interoperates with @noble/post-quantum both ways', () => {
    const seed = new Uint8Array(32).fill(7)
    const message = Buffer.from('gym')
    const native = importSeed('ml-dsa-87', seed)
    const noble = ml_dsa87.keygen(seed)
    assert.deepEqual(exportPublicKey('ml-dsa-87', native), noble.publicKey)
    const nativeSignature = sign(null, message, native)
    assert.ok(ml_dsa87.verify(nativeSignature, message, noble.publicKey))
    const nobleSignature = ml_dsa87.sign(message, noble.secretKey)
    assert.ok(verifyMlDsa87(noble.publicKey, message, nobleSignature))
    assert.ok(!verifyMlDsa87(noble.publicKey, Buffer.from('gyn'), nobleSignature))
    assert.ok(
      !verifyMlDsa87(noble.publicKey, message, nobleSignature.with(4000, (nobleSignature[4000] ?? 0) ^ 1)),
    )
    assert.ok(!verifyMlDsa87(noble.publicKey.subarray(1), message, nobleSignature))
  })
})
