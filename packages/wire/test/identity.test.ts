/** Identities, peer ids and key bindings: fixed forms, and that no key can be claimed without its holder. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { inspect } from 'node:util'
import { ml_dsa87 } from '@noble/post-quantum/ml-dsa.js'
import {
  KEY_BINDING_BYTES,
  createIdentity,
  decodeKeyBinding,
  ed25519FromPeerId,
  encodeKeyBinding,
  generateIdentitySeeds,
  peerIdFromEd25519,
  verifyEd25519,
  verifyKeyBinding,
  verifyMlDsa87,
} from '@gym-node/wire'
import { testIdentity } from './samples.ts'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

describe('createIdentity', () => {
  it('derives both public keys from the seeds and signs with them', () => {
    const identity = testIdentity(1)
    const message = Buffer.from('message')
    assert.ok(verifyEd25519(identity.ed25519PublicKey, message, identity.signEd25519(message)))
    assert.ok(verifyMlDsa87(identity.mlDsa87PublicKey, message, identity.signMlDsa87(message)))
    assert.equal(hex(identity.mlDsa87PublicKey), hex(ml_dsa87.keygen(new Uint8Array(32).fill(101)).publicKey))
  })

  it('keeps its own copy of the seed, so wiping the caller’s does no harm', () => {
    const seeds = generateIdentitySeeds()
    const before = hex(seeds.ed25519)
    const identity = createIdentity(seeds)
    seeds.ed25519.fill(0)
    assert.equal(hex(identity.ed25519Seed), before)
  })

  it('does not show its seed to a logger or a spread', () => {
    const identity = testIdentity(1)
    assert.equal(identity.ed25519Seed.length, 32)
    assert.ok(!('ed25519Seed' in { ...identity }))
    assert.ok(!inspect(identity).includes('ed25519Seed') && !JSON.stringify(identity).includes('ed25519Seed'))
  })

  it('refuses seeds of another length', () => {
    assert.throws(() => createIdentity({ ed25519: new Uint8Array(31), mlDsa87: new Uint8Array(32) }), {
      code: 'BAD_KEY',
    })
  })

  it('draws different seeds each time', () => {
    assert.notEqual(hex(generateIdentitySeeds().mlDsa87), hex(generateIdentitySeeds().mlDsa87))
  })
})

describe('peer ids', () => {
  // Key of the libp2p peer-id specification's Ed25519 example; its peer id as @libp2p/peer-id 6.0.15 prints it.
  const publicKey = Buffer.from('1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e', 'hex')
  const peerId = '12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq'

  it('are those of libp2p, both ways', () => {
    assert.equal(peerIdFromEd25519(publicKey), peerId)
    assert.equal(hex(ed25519FromPeerId(peerId)), hex(publicKey))
  })

  it('are refused when they are not of an Ed25519 key', () => {
    for (const text of [
      '',
      'Qm',
      'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N',
      peerId.slice(0, -1),
      `${peerId}1`,
      '0OIl',
      'z'.repeat(10000),
    ]) {
      assert.throws(() => ed25519FromPeerId(text), { code: 'BAD_KEY' }, text.slice(0, 60))
    }
    assert.throws(() => peerIdFromEd25519(new Uint8Array(33)), { code: 'BAD_KEY' })
  })
})

describe('key bindings', () => {
  const alice = testIdentity(1)
  const mallory = testIdentity(2)

  it('survive encoding and name their peer', () => {
    const bytes = encodeKeyBinding(alice.binding)
    assert.equal(bytes.length, KEY_BINDING_BYTES)
    assert.equal(KEY_BINDING_BYTES, 1 + 32 + 2592 + 64 + 4627)
    const peer = verifyKeyBinding(decodeKeyBinding(bytes))
    assert.equal(peer.peerId, alice.peerId)
    assert.deepEqual(peer.mlDsa87PublicKey, alice.mlDsa87PublicKey)
  })

  it('cannot tie a stranger’s key to one’s own, from either side', () => {
    const mine = mallory.binding
    const theirs = alice.binding
    assert.throws(
      () =>
        verifyKeyBinding({
          ...mine,
          ed25519PublicKey: theirs.ed25519PublicKey,
          ed25519Signature: theirs.ed25519Signature,
        }),
      { code: 'BAD_SIGNATURE' },
    )
    assert.throws(
      () =>
        verifyKeyBinding({
          ...mine,
          mlDsa87PublicKey: theirs.mlDsa87PublicKey,
          mlDsa87Signature: theirs.mlDsa87Signature,
        }),
      { code: 'BAD_SIGNATURE' },
    )
    assert.throws(() => verifyKeyBinding({ ...mine, ed25519PublicKey: theirs.ed25519PublicKey }), {
      code: 'BAD_SIGNATURE',
    })
  })

  it('fail when any one byte differs', () => {
    const bytes = encodeKeyBinding(alice.binding)
    for (let i = 0; i < bytes.length; i += 397) {
      const altered = Uint8Array.from(bytes)
      altered[i] = (altered[i] ?? 0) ^ 0x40
      assert.throws(() => verifyKeyBinding(decodeKeyBinding(altered)), { name: 'WireError' }, `byte ${i}`)
    }
    assert.throws(() => decodeKeyBinding(bytes.subarray(1)), { code: 'BAD_KEY' })
  })
})
