/**
 * What authenticated members may send inside a round: one real exchange between a predecessor and a successor that the
 * test plays. They follow the plan except for a few seeded changes to the frames, in any wire type, with and without
 * signatures, on one or two lanes of streams or direct sockets.
 */
import assert from 'node:assert/strict'
import { createIdentity, FrameSealer, sha3_256, type FrameHeader, type SealedKeys } from '@gym-node/wire'
import { DEFAULT_LIMITS } from '../../src/defaults.ts'
import { RingError } from '../../src/errors.ts'
import { encodedBytes } from '../../src/kernels/chunk-memory.ts'
import { Lanes } from '../../src/link/lanes.ts'
import { FRAME_KIND, SealedLink } from '../../src/link/sealed-link.ts'
import { chunkElements, sendSteps } from '../../src/plan.ts'
import { encodeChallenge, encodeClaim } from '../../src/round/claims.ts'
import { exchange } from '../../src/round/exchange.ts'
import { Fingerprints } from '../../src/round/fingerprint.ts'
import { RoundMemory } from '../../src/round/round-memory.ts'
import { Witness } from '../../src/round/witness.ts'
import type { Carrier } from '../../src/net/carrier.ts'
import type { WireType } from '../../src/types.ts'
import type { Random } from '../sim/random.ts'
import { MemoryCarrier } from './memory-carrier.ts'
import { anyBytes, mutateBytes, pieces } from './mutate.ts'
import type { Target } from './target.ts'

const COUNT = 3
const SELF = 1
const ROUND = 7
const MAX_SENT_BYTES = 256 * 1024
const LIMITS = { ...DEFAULT_LIMITS, chunkBytes: 128 }
const WIRES: readonly WireType[] = ['f32', 'bf16', 'int8']
const KEYS: SealedKeys = {
  send: { key: new Uint8Array(32).fill(1), iv: new Uint8Array(12).fill(2) },
  receive: { key: new Uint8Array(32).fill(3), iv: new Uint8Array(12).fill(4) },
}

const identities = Array.from({ length: COUNT }, (_, n) =>
  createIdentity({ ed25519: sha3_256(Uint8Array.of(n, 1)), mlDsa87: sha3_256(Uint8Array.of(n, 2)) }),
)
const members = identities.map(({ peerId }) => peerId)
const view = { ringId: 'ab', epoch: 3, members }
const scope = { ringId: view.ringId, epoch: view.epoch, round: ROUND }
const FACTS = sha3_256(Uint8Array.of(9))

/** Statements of the other two, the predecessor's own first: challenges that are right, claims that cannot be. */
const statements = [0, 2].map((member) => {
  const tags = Array.from({ length: COUNT }, () => new Uint8Array(16).fill(member))
  const claim = { about: new Uint8Array(32), key: new Uint8Array(32).fill(5), tags }
  const challenge = new Uint8Array(32).fill(member)
  return {
    member,
    challenge: new Uint8Array(encodeChallenge(identities[member], scope, challenge)),
    claim: new Uint8Array(encodeClaim(identities[member], scope, claim)),
  }
})

type Header = Omit<FrameHeader, 'length'>

interface Frame {
  readonly lane: number
  readonly header: Header
  readonly payload: Uint8Array
}

/** One end that the test plays: it seals what it sends as the peer would. */
class Neighbour {
  readonly carrier: MemoryCarrier
  readonly link: SealedLink
  readonly #sealer = new FrameSealer(KEYS.receive)

  constructor(peer: string, kind: Carrier['kind']) {
    this.carrier = new MemoryCarrier(kind)
    this.link = new SealedLink(this.carrier, KEYS, peer, LIMITS)
  }

  say(random: Random, { header, payload }: Frame): void {
    for (const piece of pieces(random, this.#sealer.seal(header, payload))) this.carrier.arrive(piece)
  }
}

/** Everything that an honest predecessor sends, in order. */
function honestFrames(
  random: Random,
  length: number,
  wire: WireType,
  lanes: number,
  isSigned: boolean,
): Frame[] {
  const elements = chunkElements(wire, LIMITS.chunkBytes, length, COUNT)
  const frames: Frame[] = sendSteps(length, COUNT, SELF - 1, elements).map((step, i) => {
    const payload = new Uint8Array(encodedBytes(wire, step.span.end - step.span.start))
    for (let at = 0; at < payload.length; at++) payload[at] = random.below(256)
    const kind = step.reduce ? FRAME_KIND.reduce : FRAME_KIND.gather
    return { lane: i % lanes, header: { kind, move: step.move, round: ROUND, chunk: step.chunk }, payload }
  })
  if (!isSigned) return frames
  for (const kind of ['challenge', 'claim'] as const) {
    for (const statement of statements) {
      const header = { kind: FRAME_KIND[kind], move: statement.member, round: ROUND, chunk: 0 }
      frames.push({ lane: 0, header, payload: statement[kind] })
    }
  }
  return frames
}

/** One change: a frame left out, doubled, moved, with another header or payload, or one that nobody expects. */
function changeOne(random: Random, frames: readonly Frame[]): Frame[] {
  const at = random.below(frames.length)
  const frame = frames[at]
  if (frame === undefined) return [...frames]
  const { header, payload } = frame
  switch (random.below(7)) {
    case 0:
      return frames.toSpliced(at, 1)
    case 1:
      return frames.toSpliced(at, 0, frame)
    case 2:
      return frames.toSpliced(at, 1).toSpliced(random.below(frames.length), 0, frame)
    case 3: {
      const odd = [0, 1, 255, 65_535][random.below(4)] ?? 0
      const field = (['kind', 'move', 'round', 'chunk'] as const)[random.below(4)] ?? 'kind'
      return frames.with(at, { ...frame, header: { ...header, [field]: field === 'kind' ? odd & 255 : odd } })
    }
    case 4:
      return frames.with(at, { ...frame, payload: mutateBytes(random, payload) })
    case 5:
      return frames.with(at, { ...frame, payload: payload.subarray(0, random.below(payload.length + 1)) })
    default: {
      const kinds = Object.values(FRAME_KIND)
      const kind = kinds[random.below(kinds.length)] ?? 0
      const stranger = { lane: 0, header: { ...header, kind }, payload: anyBytes(random, 200) }
      return frames.toSpliced(at, 0, stranger)
    }
  }
}

/** The exchange as such: it ends with all that was planned or a named error, and sends no more than the plan says. */
export const exchangeTarget: Target = {
  name: 'frames of members',
  cost: 25,
  async run(random) {
    const wire = WIRES[random.below(WIRES.length)] ?? 'f32'
    const [length, lanes, isSigned] = [random.below(200), 1 + random.below(2), random.chance(0.25)]
    const kind = random.chance(0.5) ? 'direct' : 'stream'
    const [before, after] = [members[0], members[2]].map((peer) =>
      Array.from({ length: lanes }, () => new Neighbour(peer, kind)),
    )
    const lanesOf = ([first, ...rest]: readonly Neighbour[]): Lanes =>
      new Lanes([first.link, ...rest.map(({ link }) => link)])
    const [from, to] = [lanesOf(before), lanesOf(after)]
    const result = new Float32Array(length)
    const about = {
      identity: identities[SELF],
      to,
      view,
      position: SELF,
      round: ROUND,
      wire,
      facts: FACTS,
      result,
    }
    const stop = new AbortController()
    const running = exchange({
      ...about,
      from,
      vector: new Float32Array(length).fill(1),
      weight: 1,
      totalWeight: COUNT,
      count: COUNT,
      chunkBytes: LIMITS.chunkBytes,
      memory: new RoundMemory(wire, length, LIMITS.chunkBytes),
      residual: null,
      newResidual: wire === 'int8' ? new Uint16Array(length) : null,
      fingerprints: isSigned ? null : new Fingerprints(FACTS, COUNT),
      witness: isSigned ? new Witness(about) : null,
      stallMs: 60_000,
      signal: stop.signal,
    })
    const outcome = running.then(
      () => null,
      (thrown: unknown) => thrown,
    )
    const honest = honestFrames(random, length, wire, lanes, isSigned)
    const go = {
      lane: 0,
      header: { kind: FRAME_KIND.go, move: 0, round: ROUND, chunk: 0 },
      payload: new Uint8Array(0),
    }
    let incoming: Frame[] = honest
    let outgoing: Frame[] = [go]
    const changes = random.below(4)
    for (let i = 0; i < changes; i++) {
      if (random.chance(0.8)) incoming = changeOne(random, incoming)
      else outgoing = changeOne(random, outgoing)
    }
    while (incoming.length + outgoing.length > 0) {
      const isFrom = random.below(incoming.length + outgoing.length) < incoming.length
      const frame = (isFrom ? incoming : outgoing).shift()
      if (frame !== undefined) (isFrom ? before : after)[frame.lane]?.say(random, frame)
      if (random.chance(0.1)) after[random.below(lanes)].carrier.write()
      if (random.chance(0.02)) await turn()
    }
    for (let i = 0; i < 6; i++) await turn()
    stop.abort(new RingError('STOPPED', 'nothing more comes'))
    check(await outcome, changes, isSigned)
    for (const { carrier } of after) carrier.write()
    const sent = [...before, ...after].flatMap(({ carrier }) => carrier.sent)
    const bytes = sent.reduce((sum, part) => sum + part.byteLength, 0)
    assert.ok(bytes <= MAX_SENT_BYTES, `sent ${bytes} bytes`)
  },
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function check(outcome: unknown, changes: number, isSigned: boolean): void {
  if (outcome === null) {
    assert.ok(!isSigned, 'claims that nobody holds were believed')
    return
  }
  if (!(outcome instanceof RingError)) throw new Error('ended without a named error', { cause: outcome })
  const codes = ['BAD_FRAME', 'BAD_SIGNATURE', 'BROKEN_OFF', 'STOPPED']
  assert.ok(codes.includes(outcome.code), `ended with ${outcome.code}: ${outcome.message}`)
  if (changes === 0) assert.equal(outcome.code, 'BAD_SIGNATURE', outcome.message)
}
