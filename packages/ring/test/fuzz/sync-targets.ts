/** State on its way from a member to another, both sides; results read back from a disk; dial-back messages. */
import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import { FrameSealer, sha3_256, type SealedKeys } from '@gym-node/wire'
import { DEFAULT_LIMITS } from '../../src/defaults.ts'
import { RingError } from '../../src/errors.ts'
import { FRAME_KIND, SealedLink } from '../../src/link/sealed-link.ts'
import { isPrivateHost } from '../../src/reach/addresses.ts'
import {
  encodePunchAddresses,
  MAX_PUNCH_ADDRESSES,
  parsePunchAddresses,
  parsePunchGo,
} from '../../src/reach/punch-messages.ts'
import {
  encodeReachAnswer,
  encodeReachRequest,
  parseReachAnswer,
  parseReachRequest,
} from '../../src/reach/messages.ts'
import { decodeHeld, encodeHeld } from '../../src/round/held-result.ts'
import { StateFetcher } from '../../src/sync/fetch.ts'
import { encodeStateRequest } from '../../src/sync/request.ts'
import { StateServer } from '../../src/sync/serve.ts'
import type { Random } from '../sim/random.ts'
import { MemoryCarrier } from './memory-carrier.ts'
import { anyBytes, mutateBytes, mutateJson, pieces } from './mutate.ts'
import { json, refusing, type Target } from './target.ts'

const LIMITS = { ...DEFAULT_LIMITS, chunkBytes: 256, stateBytes: 4096 }
const KEYS: SealedKeys = {
  send: { key: new Uint8Array(32).fill(1), iv: new Uint8Array(12).fill(2) },
  receive: { key: new Uint8Array(32).fill(3), iv: new Uint8Array(12).fill(4) },
}
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const gone = new RingError('PEER_LOST', 'the other end is gone')

interface Frame {
  readonly kind: number
  readonly payload: Uint8Array
}

function say(random: Random, carrier: MemoryCarrier, sealer: FrameSealer, { kind, payload }: Frame): void {
  const frame = sealer.seal({ kind, move: 0, round: 1, chunk: 0 }, payload)
  for (const piece of pieces(random, frame)) carrier.arrive(piece)
}

function anyKind(random: Random): number {
  const kinds = Object.values(FRAME_KIND)
  return kinds[random.below(kinds.length)] ?? 0
}

/** What an honest source sends from `offset` on, with a few changes. */
function servedFrames(random: Random, bytes: Uint8Array, offset: number): Frame[] {
  const head = new Uint8Array(8)
  new DataView(head.buffer).setBigUint64(0, BigInt(bytes.byteLength), true)
  let frames: Frame[] = [{ kind: FRAME_KIND.stateHead, payload: head }]
  for (let at = offset; at < bytes.byteLength; at += LIMITS.chunkBytes) {
    frames.push({ kind: FRAME_KIND.stateChunk, payload: bytes.slice(at, at + LIMITS.chunkBytes) })
  }
  for (let changes = random.below(3); changes > 0; changes--) {
    const at = random.below(frames.length + 1)
    const frame = frames[at]
    const other = { kind: anyKind(random), payload: anyBytes(random, 300) }
    if (frame === undefined || random.chance(0.2)) frames = frames.toSpliced(at, 0, other)
    else {
      const what = random.below(3)
      if (what === 0) frames = frames.toSpliced(at, 1)
      else if (what === 1) frames = frames.toSpliced(at, 0, frame)
      else frames = frames.with(at, { ...frame, payload: mutateBytes(random, frame.payload) })
    }
  }
  return frames
}

const fetching: Target = {
  name: 'state from sources',
  cost: 12,
  async run(random) {
    const right = anyBytes(random, 2000)
    const sources = ['a', 'b', 'c'].slice(0, 1 + random.below(3))
    const named: RingError[] = []
    const dial = async (peer: string): Promise<SealedLink> => {
      const carrier = new MemoryCarrier()
      const link = new SealedLink(carrier, KEYS, peer, LIMITS)
      const frames = servedFrames(random, right, random.chance(0.7) ? 0 : random.below(2000))
      const sealer = new FrameSealer(KEYS.receive)
      setImmediate(() => {
        for (const frame of frames) say(random, carrier, sealer, frame)
        carrier.abort(gone)
      })
      return link
    }
    const fetcher = new StateFetcher(dial, LIMITS, (error) => named.push(error))
    const wanted = { round: 1, hash: hex(sha3_256(right)) }
    try {
      const got = await fetcher.fetch(wanted, sources, new AbortController().signal)
      assert.deepEqual(got, right, 'only the right bytes come out')
    } catch (thrown) {
      if (!(thrown instanceof RingError)) throw thrown
      const codes = ['PEER_LOST', 'OUT_OF_SYNC', 'BAD_FRAME', 'BAD_STATE']
      assert.ok(codes.includes(thrown.code), `${thrown.code}: ${thrown.message}`)
    }
    for (const error of named)
      assert.ok(error.peer !== undefined && sources.includes(error.peer), error.message)
  },
}

const serving: Target = {
  name: 'state served',
  cost: 6,
  async run(random) {
    const bytes = anyBytes(random, 2000)
    const carrier = new MemoryCarrier()
    const link = new SealedLink(carrier, KEYS, 'peer', LIMITS)
    const state = {
      current: () => ({ round: 1, hash: sha3_256(bytes) }),
      read: () => Promise.resolve(bytes),
      adopt: () => Promise.resolve(),
    }
    const outcome = new StateServer(state, LIMITS).serve(link).then(
      (served) => served,
      (thrown: unknown) => thrown,
    )
    const value = { round: 1, hash: hex(sha3_256(bytes)), offset: random.below(2100) }
    const request = random.chance(0.5) ? encodeStateRequest(value) : json(mutateJson(random, value))
    const sealer = new FrameSealer(KEYS.receive)
    const kind = random.chance(0.9) ? FRAME_KIND.stateRequest : anyKind(random)
    const payload = random.chance(0.3) ? mutateBytes(random, request) : request
    for (let times = 1 + random.below(2); times > 0; times--) say(random, carrier, sealer, { kind, payload })
    await new Promise((resolve) => setImmediate(resolve))
    carrier.abort(gone)
    const served = await outcome
    if (served instanceof RingError) assert.ok(['BAD_FRAME', 'PEER_LOST'].includes(served.code), served.code)
    else assert.ok(typeof served === 'number' && served <= bytes.byteLength, String(served))
    const sent = carrier.sent.reduce((sum, part) => sum + part.byteLength, 0)
    assert.ok(sent <= 2 * bytes.byteLength + 1024, `sent ${sent} bytes for a state of ${bytes.byteLength}`)
  },
}

const held: Target = {
  name: 'stored result',
  cost: 4,
  run(random) {
    const mean = Float32Array.from({ length: random.below(50) }, () => random.between(-1, 1))
    const right = encodeHeld({
      round: 3,
      totalWeight: 5,
      view: { ringId: 'ab', epoch: 2, members: ['p', 'q'] },
      contributions: ['p', 'q'].map((peerId) => ({ peerId, weight: 2.5, commitment: new Uint8Array(32) })),
      mean,
      hash: sha3_256(Uint8Array.of(1)),
    })
    const wrong = mutateBytes(random, right)
    refusing(() => {
      // A change that JSON does not show (white space) may pass; the numbers are those that were stored.
      const read = decodeHeld(wrong)
      assert.deepEqual(read.mean, mean)
      assert.equal(read.round, 3)
    }, 'BAD_STORE')
  },
}

const reach: Target = {
  name: 'dial back',
  cost: 1,
  run(random) {
    const answer = {
      observedHost: random.chance(0.5) ? '192.0.2.7' : '2001:db8::7',
      reached: random.chance(0.5),
    }
    const request = encodeReachRequest(1 + random.below(65_535))
    const wrong = (bytes: Uint8Array): Uint8Array =>
      random.chance(0.5)
        ? mutateBytes(random, bytes)
        : json(mutateJson(random, JSON.parse(new TextDecoder().decode(bytes))))
    refusing(() => {
      const { observedHost, reached } = parseReachAnswer(wrong(encodeReachAnswer(answer)))
      assert.ok(isIP(observedHost) > 0 && !observedHost.includes('%') && typeof reached === 'boolean')
    }, 'BAD_MESSAGE')
    refusing(() => {
      const port = parseReachRequest(wrong(request))
      assert.ok(Number.isInteger(port) && port >= 1 && port <= 65_535)
    }, 'BAD_MESSAGE')
  },
}

const punch: Target = {
  name: 'hole punching',
  cost: 1,
  run(random) {
    const outside = [
      { host: '203.0.113.7', port: 1 + random.below(65_535) },
      { host: '2001:db8::7', port: 4160 },
    ]
    const right = encodePunchAddresses({ open: random.chance(0.5) ? outside : [], outside })
    const wrong = random.chance(0.5)
      ? mutateBytes(random, right)
      : json(mutateJson(random, JSON.parse(new TextDecoder().decode(right))))
    refusing(() => {
      const { open, outside: others } = parsePunchAddresses(wrong)
      assert.ok(open.length <= MAX_PUNCH_ADDRESSES && others.length <= MAX_PUNCH_ADDRESSES)
      for (const { host, port } of [...open, ...others]) {
        assert.ok(isIP(host) > 0 && !host.includes('%') && !isPrivateHost(host))
        assert.ok(Number.isInteger(port) && port >= 1 && port <= 65_535)
      }
    }, 'BAD_MESSAGE')
    refusing(() => parsePunchGo(wrong), 'BAD_MESSAGE')
  },
}

/** All of them. */
export const SYNC_TARGETS: readonly Target[] = [fetching, serving, held, reach, punch]
