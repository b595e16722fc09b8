/**
 * Everything in the ring that reads a peer's bytes (or a file that may be torn), each fed with wrong inputs. A target
 * throws when a promise is broken: an error without a name, a wrong input taken for a right one, memory beyond a limit.
 */
import assert from 'node:assert/strict'
import { createIdentity, FrameSealer, sha3_256, type SealedKeys } from '@gym-node/wire'
import { DEFAULT_LIMITS } from '../../src/defaults.ts'
import { RingError } from '../../src/errors.ts'
import { answerLink, initiateLink } from '../../src/link/handshake.ts'
import { SealedLink } from '../../src/link/sealed-link.ts'
import { ControlChannel } from '../../src/net/control-channel.ts'
import { decodeOffer, encodeOffer } from '../../src/net/direct-listener.ts'
import { frameMessage, MessageSink } from '../../src/net/messages.ts'
import { PartialState } from '../../src/sync/partial.ts'
import { encodeStateRequest, parseStateRequest } from '../../src/sync/request.ts'
import { ViewMachine } from '../../src/view/machine.ts'
import { EMPTY_DURABLE, type Event } from '../../src/view/state.ts'
import { decodeDurable, encodeDurable } from '../../src/view/store-codec.ts'
import type { VoteSigner } from '../../src/view/vote.ts'
import type { Random } from '../sim/random.ts'
import { simSigner } from '../sim/signer.ts'
import { exchangeTarget } from './exchange-target.ts'
import { MemoryCarrier } from './memory-carrier.ts'
import { anyBytes, joined, mutateBytes, mutateJson, pieces } from './mutate.ts'
import { SYNC_TARGETS } from './sync-targets.ts'
import { json, refusing, type Target } from './target.ts'
import { anyPeer, anyViewMessage } from './view-messages.ts'

const LIMITS = { ...DEFAULT_LIMITS, chunkBytes: 4096, controlMessageBytes: 8192 }

const hello = { t: 'hello', version: 1, job: 'j', boot: 'b', addresses: ['/ip4/1.2.3.4/tcp/1'], peers: [] }
const peers = { t: 'peers', peers: [{ peer: 'p', addresses: ['/ip4/1.2.3.4/tcp/1'] }] }

const paths = { t: 'paths', row: [['p', 12.5]] }

const control: Target = {
  name: 'control stream',
  cost: 4,
  run(random) {
    const carrier = new MemoryCarrier()
    let messages = 0
    const handlers = {
      onHello: () => (messages += 1),
      onMessage: () => (messages += 1),
      onEnd: () => undefined,
    }
    new ControlChannel(carrier, 'peer', LIMITS, handlers)
    const values: unknown[] = [hello, peers, paths, anyViewMessage(random), anyViewMessage(random)]
    const wrong = random.below(values.length)
    const changed = values.map((value, i) =>
      i === wrong && random.chance(0.6) ? mutateJson(random, value) : value,
    )
    let bytes = joined(...changed.flatMap((value) => frameMessage(json(value))))
    if (random.chance(0.4)) bytes = new Uint8Array(mutateBytes(random, bytes))
    for (const piece of pieces(random, bytes)) carrier.arrive(piece)
    assert.ok(messages <= 8)
    if (carrier.end !== null)
      assert.ok(['BAD_MESSAGE', 'PEER_FLOOD'].includes(carrier.end.code), carrier.end.code)
  },
}

const splitter: Target = {
  name: 'message lengths',
  cost: 1,
  run(random) {
    const messages = Array.from({ length: random.below(6) }, () => anyBytes(random, 300))
    const bytes = joined(...messages.flatMap(frameMessage))
    const seen: Uint8Array[] = []
    const carrier = new MemoryCarrier()
    carrier.receive(new MessageSink(300, (message) => seen.push(new Uint8Array(message))))
    for (const piece of pieces(random, bytes)) carrier.arrive(piece)
    assert.deepEqual(seen, messages, 'however the bytes are cut')
    refusing(() => {
      const other = new MemoryCarrier()
      other.receive(new MessageSink(300, () => undefined))
      for (const piece of pieces(random, mutateBytes(random, bytes))) other.arrive(piece)
    }, 'BAD_MESSAGE')
  },
}

const KEYS: SealedKeys = {
  send: { key: new Uint8Array(32).fill(1), iv: new Uint8Array(12).fill(2) },
  receive: { key: new Uint8Array(32).fill(3), iv: new Uint8Array(12).fill(4) },
}

const frames: Target = {
  name: 'sealed frames',
  cost: 2,
  run(random) {
    const carrier = new MemoryCarrier()
    const link = new SealedLink(carrier, KEYS, 'peer', LIMITS)
    const sealer = new FrameSealer(KEYS.receive)
    const payloads = Array.from({ length: 1 + random.below(5) }, () => anyBytes(random, 600))
    const header = { kind: random.below(40), move: 1, round: 2, chunk: 3 }
    const bytes = joined(...payloads.map((payload) => sealer.seal(header, payload)))
    const wrong = random.chance(0.8) ? mutateBytes(random, bytes) : bytes
    const got: Uint8Array[] = []
    link.onFrame((_, payload) => got.push(new Uint8Array(payload)))
    for (const piece of pieces(random, wrong)) carrier.arrive(piece)
    // Whatever was changed: what comes out is a beginning of what was sent, never anything else.
    assert.deepEqual(got, payloads.slice(0, got.length))
    if (Buffer.from(wrong).equals(bytes)) assert.equal(got.length, payloads.length)
    if (carrier.end !== null) assert.equal(carrier.end.code, 'BAD_FRAME')
  },
}

const identityOf = (n: number) =>
  createIdentity({ ed25519: sha3_256(Uint8Array.of(n, 1)), mlDsa87: sha3_256(Uint8Array.of(n, 2)) })
const [one, two] = [identityOf(1), identityOf(2)]
const handshakeOptions = { protocol: '/test/1', limits: LIMITS, timeoutMs: 60_000 }
let opening: Uint8Array | null = null

/** The bytes with which an honest initiator begins. */
function honestOpening(): Uint8Array {
  if (opening !== null) return opening
  const carrier = new MemoryCarrier()
  const preface = { purpose: 'round', ringId: 'ab', epoch: 3 } as const
  const initiating = initiateLink({ ...handshakeOptions, carrier, identity: one, peer: two.peerId }, preface)
  initiating.catch(() => undefined) // nobody answers
  carrier.abort(new RingError('STOPPED', 'enough seen'))
  opening = joined(...carrier.sent)
  return opening
}

const handshake: Target = {
  name: 'handshake',
  cost: 60,
  async run(random) {
    const carrier = new MemoryCarrier()
    const options = { ...handshakeOptions, carrier, identity: two, peer: one.peerId }
    const answering = answerLink(options, async () => undefined)
    const outcome = answering.then(
      () => null,
      (thrown: unknown) => thrown,
    )
    const bytes = random.chance(0.1) ? anyBytes(random, 3000) : mutateBytes(random, honestOpening())
    for (const piece of pieces(random, joined(bytes, anyBytes(random, 200)))) carrier.arrive(piece)
    await new Promise((resolve) => setImmediate(resolve))
    carrier.abort(new RingError('PEER_LOST', 'the other end is gone'))
    const error = await outcome
    assert.ok(error instanceof RingError, `answered with ${String(error)}`)
  },
}

const offer: Target = {
  name: 'direct offer',
  cost: 1,
  run(random) {
    const ticket = { id: new Uint8Array(16).fill(7), keys: KEYS }
    const bytes = encodeOffer({ port: 4711, tickets: [ticket, ticket] })
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes))
    const wrong = random.chance(0.5) ? mutateBytes(random, bytes) : json(mutateJson(random, value))
    refusing(() => {
      const { port, tickets } = decodeOffer(wrong)
      assert.ok(port >= 1 && port <= 65_535)
      for (const { id, keys } of tickets) {
        assert.equal(id.byteLength, 16)
        assert.equal(keys.send.key.byteLength + keys.receive.key.byteLength, 64)
      }
    }, 'BAD_FRAME')
  },
}

const stateRequest: Target = {
  name: 'state request',
  cost: 1,
  run(random) {
    const value = { round: 3, hash: 'ab'.repeat(32), offset: 17 }
    const bytes = encodeStateRequest(value)
    const wrong = random.chance(0.5) ? mutateBytes(random, bytes) : json(mutateJson(random, value))
    refusing(() => {
      const { offset, hash } = parseStateRequest(wrong)
      assert.ok(Number.isSafeInteger(offset) && offset >= 0 && hash.length === 64)
    }, 'BAD_FRAME')
  },
}

const state: Target = {
  name: 'state transfer',
  cost: 2,
  run(random) {
    const right = anyBytes(random, 2000)
    const hash = Buffer.from(sha3_256(right)).toString('hex')
    const partial = new PartialState({ round: 1, hash }, 2000)
    const wrong = random.chance(0.5) ? mutateBytes(random, right) : right
    refusing(
      () => {
        partial.announce(random.chance(0.2) ? random.below(4000) : wrong.byteLength, 'a')
        for (const piece of pieces(random, wrong)) partial.append(piece, 'a')
        if (!partial.isComplete) return
        assert.deepEqual(partial.verified(), right, 'only the right bytes come out')
      },
      'BAD_STATE',
      'BAD_FRAME',
    )
    assert.ok(partial.length <= 2000)
  },
}

/** Takes every signature for right: so that what lies behind the check meets wrong values too. */
const CREDULOUS: VoteSigner = { sign: () => new Uint8Array(64), verify: () => true }

const machine: Target = {
  name: 'view machine',
  cost: 20,
  run(random) {
    const options = {
      self: 'a',
      boot: 'a.0',
      job: 'j',
      observer: random.chance(0.1),
      minMembers: 2,
      maxMembers: 4,
      quorum: random.chance(0.2) ? ('any' as const) : ('majority' as const),
      signer: random.chance(0.8) ? CREDULOUS : simSigner('a'),
      peerTimeoutMs: 1000,
      genesisSettleMs: 100,
      stragglerMs: 5000,
    }
    const view = new ViewMachine(options, { durable: EMPTY_DURABLE, held: null }, { round: 0, hash: '00' }, 0)
    let now = 0
    for (let i = 0; i < 40; i++) {
      now += random.below(300)
      const before = view.state.durable
      view.handle(anyEvent(random), now)
      const { durable } = view.state
      if (before.view !== null && durable.view?.ringId === before.view.ringId) {
        assert.ok(durable.view.epoch >= before.view.epoch, 'epochs grow')
        const isSame = durable.view.epoch === before.view.epoch
        const promised = durable.promised?.n ?? 0
        assert.ok(!isSame || promised >= (before.promised?.n ?? 0), 'a promise never goes down')
      }
      assert.ok(view.state.peers.size <= 5 && durable.invited.length <= 8)
      // Whatever was made durable can be read back.
      assert.deepEqual(decodeDurable(encodeDurable(durable)), durable)
    }
  },
}

function anyEvent(random: Random): Event {
  const peer = anyPeer(random)
  switch (random.below(12)) {
    case 0:
      return { on: 'connected', peer }
    case 1:
      return { on: 'disconnected', peer }
    case 2:
      return { on: 'tick' }
    case 3: {
      const contribution = {
        round: random.below(4),
        length: 4,
        weight: 1,
        wire: 'f32',
        state: '00',
        commitment: null,
      }
      return { on: 'contribute', contribution }
    }
    case 4:
      return { on: 'computed', epoch: random.below(6), round: random.below(4), hash: '11' }
    case 5:
      return { on: 'state', state: { round: random.below(4), hash: '00' } }
    default:
      return { on: 'message', from: peer, message: anyViewMessage(random) }
  }
}

const store: Target = {
  name: 'stored view',
  cost: 2,
  run(random) {
    const bytes = encodeDurable({ ...EMPTY_DURABLE, promised: { n: 3, peer: 'a' } })
    refusing(() => {
      const wrong = mutateBytes(random, bytes)
      const read = decodeDurable(wrong)
      // White space at the end is nothing; any other change is seen by the checksum.
      assert.deepEqual(read.promised, { n: 3, peer: 'a' })
    }, 'BAD_STORE')
  },
}

/** All of them. */
export const TARGETS: readonly Target[] = [
  control,
  splitter,
  frames,
  handshake,
  offer,
  stateRequest,
  state,
  machine,
  store,
  exchangeTarget,
  ...SYNC_TARGETS,
]
