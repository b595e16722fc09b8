/** The sealed channel's handshake: agreement, and every attack its argument names. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Identity, SealContext } from '@gym-node/wire'
import {
  FrameOpener,
  FrameSealer,
  SEAL_CONFIRM_BYTES,
  SEAL_HELLO_BYTES,
  SEAL_REPLY_BYTES,
  SealInitiator,
  SealResponder,
} from '@gym-node/wire'
import { testIdentity } from './samples.ts'

const alice = testIdentity(1)
const bob = testIdentity(2)
const mallory = testIdentity(3)
const CONTEXT: SealContext = {
  protocol: '/gym/ring/1',
  ringId: 'ring',
  epoch: 4,
  initiator: alice.peerId,
  responder: bob.peerId,
}

const initiate = (context = CONTEXT, identity: Identity = alice): SealInitiator =>
  new SealInitiator({ identity, context })
const respond = (context = CONTEXT, identity: Identity = bob): SealResponder =>
  new SealResponder({ identity, context })
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const flip = (bytes: Uint8Array, index: number): Uint8Array =>
  Uint8Array.from(bytes).with(index, (bytes[index] ?? 0) ^ 1)

describe('sealed channel', () => {
  it('gives both ends the same two keys and the other’s proven identity', () => {
    const initiator = initiate()
    const responder = respond()
    const hello = initiator.hello()
    const reply = responder.reply(hello)
    const { confirm, keys, peer } = initiator.finish(reply)
    const other = responder.finish(confirm)
    assert.deepEqual(
      [hello.length, reply.length, confirm.length],
      [SEAL_HELLO_BYTES, SEAL_REPLY_BYTES, SEAL_CONFIRM_BYTES],
    )
    assert.deepEqual(keys.send, other.keys.receive)
    assert.deepEqual(keys.receive, other.keys.send)
    assert.notEqual(hex(keys.send.key), hex(keys.receive.key))
    assert.notEqual(hex(keys.send.iv), hex(keys.receive.iv))
    assert.deepEqual([peer.peerId, other.peer.peerId], [bob.peerId, alice.peerId])
    assert.equal(hex(peer.mlDsa87PublicKey), hex(bob.mlDsa87PublicKey))
    const opener = new FrameOpener(other.keys.receive, { maxPayloadBytes: 100 })
    const header = { kind: 1, move: 2, round: 3, chunk: 4 }
    const frame = new FrameSealer(keys.send).seal(header, Buffer.from('hi'))
    assert.equal(Buffer.from(opener.open(frame)).toString(), 'hi')
  })

  it('gives fresh keys every time', () => {
    const run = (): string => {
      const initiator = initiate()
      return hex(initiator.finish(respond().reply(initiator.hello())).keys.send.key)
    }
    assert.notEqual(run(), run())
  })

  const otherContexts: Record<string, SealContext> = {
    protocol: { ...CONTEXT, protocol: '/gym/ring/2' },
    ringId: { ...CONTEXT, ringId: 'rinh' },
    epoch: { ...CONTEXT, epoch: 5 },
    extra: { ...CONTEXT, extra: Uint8Array.of(0) },
    'field boundaries': { ...CONTEXT, protocol: '/gym/ring/1r', ringId: 'ing' },
  }
  for (const [what, context] of Object.entries(otherContexts)) {
    it(`fails when the ends disagree about ${what}`, () => {
      const initiator = initiate()
      const reply = respond(context).reply(initiator.hello())
      assert.throws(() => initiator.finish(reply), { code: 'BAD_HANDSHAKE', message: /same keys/ })
    })
  }

  it('fails when any byte of any message is altered on the way', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('hello', 'reply', 'confirm'),
        fc.double({ min: 0, max: 0.999999, noNaN: true }),
        (which, at) => {
          const initiator = initiate()
          const responder = respond()
          const alter = (name: string, bytes: Uint8Array): Uint8Array =>
            name === which ? flip(bytes, Math.floor(at * bytes.length)) : bytes
          assert.throws(
            () => {
              const reply = responder.reply(alter('hello', initiator.hello()))
              responder.finish(alter('confirm', initiator.finish(alter('reply', reply)).confirm))
            },
            { code: 'BAD_HANDSHAKE' },
          )
        },
      ),
      { seed: 20260103, numRuns: 40 },
    )
  })

  it('fails on messages of any other length', () => {
    const initiator = initiate()
    const hello = initiator.hello()
    assert.throws(() => respond().reply(hello.subarray(1)), { code: 'BAD_HANDSHAKE', message: /expected/ })
    assert.throws(() => respond().reply(new Uint8Array(0)), { code: 'BAD_HANDSHAKE' })
    assert.throws(() => initiator.finish(new Uint8Array(10)), { code: 'BAD_HANDSHAKE' })
  })

  it('refuses a third party on either side, even one with a valid identity', () => {
    const toMallory: SealContext = { ...CONTEXT, responder: mallory.peerId }
    const initiator = initiate()
    const reply = respond(toMallory, mallory).reply(initiator.hello())
    assert.throws(() => initiator.finish(reply), { code: 'BAD_HANDSHAKE', message: /expected/ })
    const fromMallory = initiate({ ...CONTEXT, initiator: mallory.peerId }, mallory)
    assert.throws(() => respond().reply(fromMallory.hello()), { code: 'BAD_HANDSHAKE', message: /expected/ })
  })

  it('refuses a man in the middle who passes the bindings on but puts in a KEM key of his own', () => {
    const victim = initiate()
    const hello = victim.hello()
    const own = initiate({ ...CONTEXT, initiator: mallory.peerId }, mallory).hello()
    const forged = Uint8Array.from(hello)
    forged.set(own.subarray(33, 33 + 1184), 33)
    const reply = respond().reply(forged)
    assert.throws(() => victim.finish(reply), { code: 'BAD_HANDSHAKE' })
  })

  it('refuses a reflected hello and a peer that is oneself', () => {
    const reflected = initiate().hello()
    const aliceAnswers = respond({ ...CONTEXT, initiator: bob.peerId, responder: alice.peerId }, alice)
    assert.throws(() => aliceAnswers.reply(reflected), { code: 'BAD_HANDSHAKE' })
    assert.throws(() => initiate({ ...CONTEXT, responder: alice.peerId }), { code: 'BAD_ARGUMENT' })
  })

  it('refuses swapped roles: the same two peers, each sure to be the other role', () => {
    const swapped: SealContext = { ...CONTEXT, initiator: bob.peerId, responder: alice.peerId }
    const initiator = initiate()
    assert.throws(() => respond(swapped, alice).reply(initiator.hello()), { code: 'BAD_HANDSHAKE' })
    assert.throws(() => initiate(swapped, alice), { code: 'BAD_ARGUMENT', message: /names/ })
  })

  it('refuses a reply and a confirm recorded from an earlier run', () => {
    const first = initiate()
    const firstResponder = respond()
    const oldReply = firstResponder.reply(first.hello())
    const oldConfirm = first.finish(oldReply).confirm
    const second = initiate()
    const hello = second.hello()
    assert.throws(() => second.finish(oldReply), { code: 'BAD_HANDSHAKE' })
    const responder = respond()
    responder.reply(hello)
    assert.throws(() => responder.finish(oldConfirm), { code: 'BAD_HANDSHAKE' })
  })

  it('refuses a replayed hello: who sends it cannot confirm', () => {
    const hello = initiate().hello()
    const responder = respond()
    responder.reply(hello)
    assert.throws(() => responder.finish(new Uint8Array(SEAL_CONFIRM_BYTES)), { code: 'BAD_HANDSHAKE' })
  })

  it('refuses another ML-DSA-87 key of the right peer when the view pins one', () => {
    const pinned: SealContext = { ...CONTEXT, peerMlDsa87PublicKey: mallory.mlDsa87PublicKey }
    const initiator = initiate(pinned)
    assert.throws(() => initiator.finish(respond().reply(initiator.hello())), {
      code: 'BAD_HANDSHAKE',
      message: /another ML-DSA-87 key/,
    })
    const good = initiate({ ...CONTEXT, peerMlDsa87PublicKey: bob.mlDsa87PublicKey })
    good.finish(respond().reply(good.hello()))
  })

  it('refuses an ML-KEM key that is not one', () => {
    const hello = Uint8Array.from(initiate().hello()).fill(0xff, 33, 33 + 1184)
    assert.throws(() => respond().reply(hello), { code: 'BAD_HANDSHAKE', message: /ML-KEM-768/ })
  })

  it('is one-shot: every call out of order throws', () => {
    const initiator = initiate()
    assert.throws(() => initiator.finish(new Uint8Array(SEAL_REPLY_BYTES)), { code: 'BAD_STATE' })
    const hello = initiator.hello()
    assert.throws(() => initiator.hello(), { code: 'BAD_STATE' })
    const responder = respond()
    assert.throws(() => responder.finish(new Uint8Array(0)), { code: 'BAD_STATE' })
    const reply = responder.reply(hello)
    assert.throws(() => responder.reply(hello), { code: 'BAD_STATE' })
    responder.finish(initiator.finish(reply).confirm)
    assert.throws(() => initiator.finish(reply), { code: 'BAD_STATE' })
  })

  it('refuses contexts that are not exact', () => {
    for (const epoch of [-1, 0.5, 2 ** 53, NaN])
      assert.throws(() => initiate({ ...CONTEXT, epoch }), { code: 'BAD_ARGUMENT' })
    assert.throws(() => initiate({ ...CONTEXT, ringId: 'x'.repeat(2000) }), { code: 'BAD_ARGUMENT' })
    assert.throws(() => initiate({ ...CONTEXT, responder: 'nobody' }), { code: 'BAD_KEY' })
  })
})
