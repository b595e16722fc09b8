/**
 * The sealed channel against a second implementation of its written protocol (the comment of seal-handshake.ts), made of
 * @noble primitives alone: a responder and an initiator that share no code with packages/wire but the key binding.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { gcm } from '@noble/ciphers/aes.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { sha3_256 } from '@noble/hashes/sha3.js'
import { ml_dsa87 } from '@noble/post-quantum/ml-dsa.js'
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js'
import type { SealContext } from '@gym-node/wire'
import { FrameOpener, FrameSealer, SealInitiator, SealResponder, encodeKeyBinding } from '@gym-node/wire'
import { testIdentity } from './samples.ts'

const alice = testIdentity(1)
const bob = testIdentity(2)
const CONTEXT: SealContext = {
  protocol: '/gym/ring/1',
  ringId: 'ring',
  epoch: 258,
  initiator: alice.peerId,
  responder: bob.peerId,
  extra: Uint8Array.of(9, 8, 7),
}
const HEADER = { kind: 1, move: 0, round: 2, chunk: 3 }

const bytes = (...parts: (Uint8Array | string)[]): Uint8Array =>
  new Uint8Array(Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part))))

/** label || u32 + protocol || u32 + ring || u64 epoch || both Ed25519 keys || u32 + extra, written out by hand. */
const CONTEXT_BYTES = bytes(
  'gym-seal-v1\0',
  Uint8Array.of(11, 0, 0, 0),
  '/gym/ring/1',
  Uint8Array.of(4, 0, 0, 0),
  'ring',
  Uint8Array.of(2, 1, 0, 0, 0, 0, 0, 0),
  alice.ed25519PublicKey,
  bob.ed25519PublicKey,
  Uint8Array.of(3, 0, 0, 0, 9, 8, 7),
)

interface Keys {
  readonly toResponder: Uint8Array
  readonly ivToResponder: Uint8Array
  readonly toInitiator: Uint8Array
  readonly ivToInitiator: Uint8Array
  readonly initiatorTag: Uint8Array
  readonly responderTag: Uint8Array
}

function schedule(secret: Uint8Array, transcript: Uint8Array): Keys {
  const okm = hkdf(sha256, secret, transcript, bytes('gym-seal-v1 keys'), 152)
  return {
    toResponder: okm.slice(0, 32),
    ivToResponder: okm.slice(32, 44),
    toInitiator: okm.slice(44, 76),
    ivToInitiator: okm.slice(76, 88),
    initiatorTag: okm.slice(88, 120),
    responderTag: okm.slice(120, 152),
  }
}

/** Secret key of test identity `n`'s ML-DSA-87 seed. */
const secretKey = (n: number): Uint8Array => ml_dsa87.keygen(new Uint8Array(32).fill(100 + n)).secretKey

const proof = (role: string, n: number, tagKey: Uint8Array, transcript: Uint8Array): Uint8Array => {
  const signature = ml_dsa87.sign(bytes(`gym-seal-v1 ${role}\0`, transcript), secretKey(n))
  return bytes(signature, hmac(sha256, tagKey, bytes(transcript, signature)))
}

const checkProof = (
  role: string,
  publicKey: Uint8Array,
  tagKey: Uint8Array,
  transcript: Uint8Array,
  seen: Uint8Array,
): void => {
  const signature = seen.subarray(0, 4627)
  assert.deepEqual(Uint8Array.from(seen.subarray(4627)), hmac(sha256, tagKey, bytes(transcript, signature)))
  assert.ok(ml_dsa87.verify(signature, bytes(`gym-seal-v1 ${role}\0`, transcript), publicKey))
}

describe('the sealed channel', () => {
  it('shakes hands with an independent responder', () => {
    const initiator = new SealInitiator({ identity: alice, context: CONTEXT })
    const hello = initiator.hello()
    const { cipherText, sharedSecret } = ml_kem768.encapsulate(Uint8Array.from(hello.subarray(33, 33 + 1184)))
    const core = bytes(
      Uint8Array.of(1),
      new Uint8Array(32).fill(3),
      cipherText,
      encodeKeyBinding(bob.binding),
    )
    const transcript = sha3_256(bytes(CONTEXT_BYTES, hello, core))
    const keys = schedule(sharedSecret, transcript)
    const { confirm, keys: ours } = initiator.finish(
      bytes(core, proof('responder', 2, keys.responderTag, transcript)),
    )
    checkProof('initiator', alice.mlDsa87PublicKey, keys.initiatorTag, transcript, confirm)
    const frame = new FrameSealer(ours.send).seal(HEADER, bytes('to bob'))
    assert.deepEqual(
      gcm(keys.toResponder, keys.ivToResponder, frame.subarray(0, 16)).decrypt(frame.subarray(16)),
      bytes('to bob'),
    )
  })

  it('shakes hands with an independent initiator', () => {
    const responder = new SealResponder({ identity: bob, context: CONTEXT })
    const { publicKey, secretKey: kemSecret } = ml_kem768.keygen(new Uint8Array(64).fill(4))
    const hello = bytes(
      Uint8Array.of(1),
      new Uint8Array(32).fill(5),
      publicKey,
      encodeKeyBinding(alice.binding),
    )
    const reply = responder.reply(hello)
    const coreLength = 1 + 32 + 1088 + 7316
    const transcript = sha3_256(bytes(CONTEXT_BYTES, hello, reply.subarray(0, coreLength)))
    const keys = schedule(
      ml_kem768.decapsulate(Uint8Array.from(reply.subarray(33, 33 + 1088)), kemSecret),
      transcript,
    )
    checkProof('responder', bob.mlDsa87PublicKey, keys.responderTag, transcript, reply.subarray(coreLength))
    const { keys: ours } = responder.finish(proof('initiator', 1, keys.initiatorTag, transcript))
    const header = bytes(Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 6, 0, 0, 0))
    const sealed = gcm(keys.toResponder, keys.ivToResponder, header).encrypt(bytes('to bob'))
    const opener = new FrameOpener(ours.receive, { maxPayloadBytes: 64 })
    assert.deepEqual(Uint8Array.from(opener.open(bytes(header, sealed))), bytes('to bob'))
    const back = new FrameSealer(ours.send).seal(HEADER, bytes('to alice'))
    assert.deepEqual(
      gcm(keys.toInitiator, keys.ivToInitiator, back.subarray(0, 16)).decrypt(back.subarray(16)),
      bytes('to alice'),
    )
  })
})
