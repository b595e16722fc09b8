/** Noise on node:crypto beside the pure JavaScript that libp2p ships, and memory that is given back only when it is free. */
import { createHash, randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import type { Stream } from '@libp2p/interface'
import { pureJsCrypto, type ICryptoInterface } from '@libp2p/noise'
import { noiseCrypto } from '../src/net/noise-crypto.ts'
import { StreamCarrier } from '../src/net/stream-carrier.ts'
import { startBareNode } from './net-rig.ts'
import { identityOf } from './rig.ts'

const KEY = createHash('sha256').update('key').digest()
const NONCE = Buffer.from('000000000102030405060708', 'hex')
const AD = new Uint8Array(0)

const bytes = (length: number): Uint8Array => new Uint8Array(length).map((_, i) => (i * 31 + (i >> 8)) & 0xff)

function seal(by: ICryptoInterface, plain: Uint8Array): Uint8Array {
  return by.chaCha20Poly1305Encrypt(plain, NONCE, AD, KEY).subarray()
}

describe('the cryptography of Noise', () => {
  it('gives and takes the bytes of the pure JavaScript', () => {
    for (const length of [0, 1, 63, 1_199, 65_519]) {
      const plain = bytes(length)
      const sealed = seal(noiseCrypto, plain)
      assert.deepEqual(sealed, Buffer.from(seal(pureJsCrypto, plain)))
      const copy = sealed.slice(0, length)
      const opened = noiseCrypto.chaCha20Poly1305Decrypt(sealed, NONCE, AD, KEY, copy)
      assert.equal(Buffer.compare(opened.subarray(), plain), 0)
    }
    const [one, two] = [noiseCrypto.generateX25519KeyPair(), pureJsCrypto.generateX25519KeyPair()]
    const shared = noiseCrypto.generateX25519SharedKey(one.privateKey, two.publicKey)
    assert.deepEqual(shared, Buffer.from(pureJsCrypto.generateX25519SharedKey(two.privateKey, one.publicKey)))
    const seeded = noiseCrypto.generateX25519KeyPairFromSeed(KEY)
    assert.deepEqual(
      Buffer.from(pureJsCrypto.generateX25519KeyPairFromSeed(KEY).publicKey),
      Buffer.from(seeded.publicKey),
    )
    assert.deepEqual(noiseCrypto.hashSHA256(KEY), createHash('sha256').update(KEY).digest())
  })

  it('refuses a message with one bit altered, wherever it is', () => {
    const sealed = seal(noiseCrypto, bytes(100))
    for (const at of [0, 50, 99, 100, 115]) {
      const altered = sealed.slice()
      altered[at] ^= 1
      assert.throws(() => noiseCrypto.chaCha20Poly1305Decrypt(altered, NONCE, AD, KEY, altered.slice(0, 100)))
    }
  })
})

const BUFFERS = 60

/** Sizes from 1 byte to 300 KiB, large and small in turn. */
const sizesOf = (seed: number): number[] =>
  Array.from({ length: BUFFERS }, (_, i) => {
    return 1 + ((i * i * 7_919 + seed * 104_729) % (i % 3 === 0 ? 300_000 : 900))
  })

/** Sends random buffers; resolves with their hash once all have been told to be free. */
async function sendAll(carrier: StreamCarrier, seed: number): Promise<string> {
  const hash = createHash('sha256')
  const free = sizesOf(seed).map(() => Promise.withResolvers<undefined>())
  for (const [i, size] of sizesOf(seed).entries()) {
    const buffer = new Uint8Array(randomBytes(size))
    hash.update(buffer)
    // What is free is overwritten at once, so that a byte sent too late is a wrong one.
    const more = carrier.send(i % 4 === 0 ? [buffer.subarray(0, 1), buffer.subarray(1)] : [buffer], () => {
      buffer.fill(0)
      free[i].resolve(undefined)
    })
    if (!more) await carrier.drained()
  }
  await Promise.all(free.map(({ promise }) => promise))
  return hash.digest('hex')
}

/** The hash of as many bytes as `sendAll` sends. */
function receiveAll(carrier: StreamCarrier, seed: number): Promise<string> {
  const hash = createHash('sha256')
  let left = sizesOf(seed).reduce((sum, size) => sum + size, 0)
  return new Promise((resolve, reject) => {
    carrier.onEnd(reject)
    carrier.receive((part) => {
      hash.update(part)
      left -= part.byteLength
      if (left === 0) resolve(hash.digest('hex'))
    })
  })
}

describe('memory that passes through Noise', () => {
  it('is given back only after it has passed, with several streams at once both ways', async () => {
    const [a, b] = await Promise.all([startBareNode(identityOf(1)), startBareNode(identityOf(2))])
    try {
      const ends: StreamCarrier[] = []
      for (let i = 0; i < 3; i++) {
        const arrival = Promise.withResolvers<Stream>()
        await b.handle(`/test/${i}`, arrival.resolve)
        ends.push(new StreamCarrier(await a.dialProtocol(b.getMultiaddrs(), `/test/${i}`)))
        ends.push(new StreamCarrier(await arrival.promise))
      }
      const received = Promise.all(ends.map((end, i) => receiveAll(end, i ^ 1)))
      const sent = await Promise.all(ends.map((end, i) => sendAll(end, i)))
      assert.deepEqual(
        await received,
        sent.map((_, i) => sent[i ^ 1]),
      )
    } finally {
      await Promise.all([a.stop(), b.stop()])
    }
  })
})
