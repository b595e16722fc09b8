/** State sync between libp2p nodes over sealed links: broken transfers go on, wrong bytes are never taken. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { peerIdFromString } from '@libp2p/peer-id'
import { FrameSealer, sha3_256, type Identity, type SealedKeys } from '@gym-node/wire'
import { DEFAULT_LIMITS, RingError } from '../src/index.ts'
import { STATE_PROTOCOL } from '../src/defaults.ts'
import { answerLink, initiateLink } from '../src/link/handshake.ts'
import { FRAME_KIND, SealedLink } from '../src/link/sealed-link.ts'
import { StreamCarrier } from '../src/net/stream-carrier.ts'
import { StateFetcher } from '../src/sync/fetch.ts'
import { PartialState } from '../src/sync/partial.ts'
import { encodeStateRequest, parseStateRequest } from '../src/sync/request.ts'
import { StateServer } from '../src/sync/serve.ts'
import { MemoryCarrier } from './fuzz/memory-carrier.ts'
import { startBareNode } from './net-rig.ts'
import { identityOf } from './rig.ts'

const LIMITS = { ...DEFAULT_LIMITS, chunkBytes: 4096, stallMs: 5000 }
const PREFACE = { purpose: 'state', ringId: 'ab', epoch: 1 } as const

const KEYS: SealedKeys = {
  send: { key: new Uint8Array(32).fill(1), iv: new Uint8Array(12).fill(2) },
  receive: { key: new Uint8Array(32).fill(3), iv: new Uint8Array(12).fill(4) },
}

/** 200 kB that no accident makes up: 49 chunks. */
const STATE = Uint8Array.from({ length: 200_003 }, (_, i) => (i * 31 + (i >> 8)) % 251)
const WANTED = { round: 7, hash: Buffer.from(sha3_256(STATE)).toString('hex') }
const WRONG = STATE.map((byte) => byte ^ 1)

type Server = (link: SealedLink) => Promise<unknown>

/** Holds `bytes` and serves them as a member does. */
function honest(bytes = STATE): Server {
  const state = {
    current: () => ({ round: WANTED.round, hash: sha3_256(bytes) }),
    read: async () => bytes,
    adopt: async () => undefined,
  }
  return (link) => new StateServer(state, LIMITS).serve(link)
}

/** Serves `bytes` whatever is asked for, from the offset asked for, announcing `total`. */
function liar(bytes: Uint8Array, total = bytes.byteLength): Server {
  return (link) =>
    new Promise<void>((resolve) => {
      link.onEnd(() => resolve())
      link.onFrame((_, payload) => {
        const { round, offset } = parseStateRequest(payload)
        const head = new Uint8Array(8)
        new DataView(head.buffer).setBigUint64(0, BigInt(total), true)
        link.send({ kind: FRAME_KIND.stateHead, move: 0, round, chunk: 0 }, head)
        for (let at = offset; at < bytes.byteLength; at += LIMITS.chunkBytes) {
          link.send(
            { kind: FRAME_KIND.stateChunk, move: 0, round, chunk: 0 },
            bytes.subarray(at, at + LIMITS.chunkBytes),
          )
        }
      })
    })
}

interface Scene {
  readonly fetcher: StateFetcher
  /** peer ids of the servers, in order */
  readonly sources: readonly string[]
  readonly refused: RingError[]
  /** (server, offset) of every request */
  readonly asked: { readonly server: number; readonly offset: number }[]
}

/** A node that fetches, and one per server; `cutAfter[n]` ends the n-th link after so many bytes of state. */
async function withServers(
  servers: readonly Server[],
  cutAfter: readonly (number | undefined)[],
  run: (scene: Scene) => Promise<void>,
  fetching = LIMITS,
): Promise<void> {
  const joiner = identityOf(0)
  const nodes = await Promise.all(
    [joiner, ...servers.map((_, i) => identityOf(i + 1))].map((id) => startBareNode(id)),
  )
  const [own, ...holders] = nodes
  assert.ok(own)
  const asked: { server: number; offset: number }[] = []
  const common = (identity: Identity, peer: string) => ({
    identity,
    peer,
    protocol: STATE_PROTOCOL,
    limits: LIMITS,
    timeoutMs: 5000,
  })
  for (const [i, node] of holders.entries()) {
    await node.handle(STATE_PROTOCOL, async (stream) => {
      const carrier = new StreamCarrier(stream)
      const options = { ...common(identityOf(i + 1), joiner.peerId), carrier }
      const { link } = await answerLink(options, async () => undefined)
      await servers[i]?.(link).catch(() => undefined) // a link that the test cuts
    })
  }
  let dials = 0
  const dial = async (peer: string, signal: AbortSignal): Promise<SealedLink> => {
    const server = nodes.findIndex((node) => node.peerId.toString() === peer)
    const target = nodes[server]
    assert.ok(target)
    await own.peerStore.merge(peerIdFromString(peer), { multiaddrs: target.getMultiaddrs() })
    const stream = await own.dialProtocol(peerIdFromString(peer), STATE_PROTOCOL, { signal })
    const link = await initiateLink({ ...common(joiner, peer), carrier: new StreamCarrier(stream) }, PREFACE)
    return watched(link, server, asked, cutAfter[dials++])
  }
  const refused: RingError[] = []
  const fetcher = new StateFetcher(dial, fetching, (error) => refused.push(error))
  const sources = servers.map((_, i) => identityOf(i + 1).peerId)
  try {
    await run({ fetcher, sources, refused, asked })
  } finally {
    await Promise.all(nodes.map(async (node) => node.stop()))
  }
}

/** Notes what is asked, and cuts the link when enough state has come through it. */
function watched(
  link: SealedLink,
  server: number,
  asked: { server: number; offset: number }[],
  cutAfter: number | undefined,
): SealedLink {
  const send = link.send.bind(link)
  link.send = (header, payload) => {
    if (header.kind === FRAME_KIND.stateRequest)
      asked.push({ server, offset: parseStateRequest(payload).offset })
    return send(header, payload)
  }
  const onFrame = link.onFrame.bind(link)
  let passed = 0
  link.onFrame = (handler) =>
    onFrame((header, payload) => {
      if (cutAfter !== undefined && passed >= cutAfter) throw new RingError('PEER_LOST', 'the cable was cut')
      if (header.kind === FRAME_KIND.stateChunk) passed += payload.byteLength
      handler(header, payload)
    })
  return link
}

const never = new AbortController().signal
const isError = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof RingError && error.code === code && message.test(error.message)

describe('a state transfer', () => {
  it('that breaks off goes on from the byte reached, at another source', async () => {
    await withServers([honest(), honest()], [40_000], async ({ fetcher, sources, asked, refused }) => {
      assert.deepEqual(await fetcher.fetch(WANTED, sources, never), STATE)
      // Whole chunks of 4096: the tenth passes 40,000.
      assert.deepEqual(asked, [
        { server: 1, offset: 0 },
        { server: 2, offset: 40_960 },
      ])
      assert.deepEqual(refused, [], 'nobody is accused')
    })
  })

  it('goes on in a later attempt, when all sources broke off in this one', async () => {
    await withServers([honest()], [70_000, 70_000], async ({ fetcher, sources, asked }) => {
      await assert.rejects(fetcher.fetch(WANTED, sources, never), isError('PEER_LOST', /cut/))
      await assert.rejects(fetcher.fetch(WANTED, sources, never), isError('PEER_LOST', /cut/))
      assert.deepEqual(await fetcher.fetch(WANTED, sources, never), STATE)
      // 18 chunks of 4096 pass 70,000 each time.
      assert.deepEqual(
        asked.map(({ offset }) => offset),
        [0, 73_728, 147_456],
      )
    })
  })

  it('begins anew when another state is wanted', async () => {
    const other = STATE.slice(0, 50_000)
    const wanted = { round: 8, hash: Buffer.from(sha3_256(other)).toString('hex') }
    await withServers([honest(), honest(other)], [20_000], async ({ fetcher, sources, asked }) => {
      await assert.rejects(fetcher.fetch(WANTED, sources.slice(0, 1), never), isError('PEER_LOST', /cut/))
      assert.deepEqual(await fetcher.fetch(wanted, sources.slice(1), never), other)
      assert.equal(asked.at(-1)?.offset, 0)
    })
  })

  it('names, counts and avoids a peer that serves wrong bytes, and takes the right ones from the next', async () => {
    await withServers([liar(WRONG), honest()], [], async ({ fetcher, sources, asked, refused }) => {
      assert.deepEqual(await fetcher.fetch(WANTED, sources, never), STATE)
      assert.deepEqual(
        refused.map(({ code, peer }) => [code, peer]),
        [['BAD_STATE', sources[0]]],
      )
      await fetcher.fetch(WANTED, sources, never)
      assert.deepEqual(
        asked.map(({ server }) => server),
        [1, 2, 2],
        'the liar is asked last from then on',
      )
    })
  })

  it('made up of honest and wrong bytes is fetched again from one alone, and the honest one is not accused', async () => {
    await withServers([honest(), liar(WRONG)], [40_000], async ({ fetcher, sources, asked, refused }) => {
      await assert.rejects(fetcher.fetch(WANTED, sources, never), isError('OUT_OF_SYNC', /came wrong/))
      assert.deepEqual(asked, [
        { server: 1, offset: 0 },
        { server: 2, offset: 40_960 },
        { server: 2, offset: 0 },
      ])
      assert.deepEqual(
        refused.map(({ peer }) => peer),
        [sources[1]],
      )
      assert.deepEqual(await fetcher.fetch(WANTED, sources, never), STATE)
    })
  })

  it('is not held up by a peer that announced a wrong length and left', async () => {
    const short = liar(STATE.subarray(0, 8192), 1e9)
    await withServers([short, honest()], [4096], async ({ fetcher, sources, asked, refused }) => {
      assert.deepEqual(await fetcher.fetch(WANTED, sources, never), STATE)
      assert.deepEqual(asked, [
        { server: 1, offset: 0 },
        { server: 2, offset: 4096 },
        { server: 2, offset: 0 },
      ])
      assert.deepEqual(
        refused.map(({ code, peer }) => [code, peer]),
        [['BAD_STATE', sources[0]]],
        'named once the other one alone has served what was wanted',
      )
    })
  })

  it('refuses more bytes than the limit before it takes any', async () => {
    await withServers([liar(STATE, LIMITS.stateBytes + 1)], [], async ({ fetcher, sources, refused }) => {
      await assert.rejects(fetcher.fetch(WANTED, sources, never), isError('OUT_OF_SYNC', /came wrong/))
      assert.match(refused[0]?.message ?? '', /limit 17179869184/)
    })
  })

  it('from a member that has moved on is refused without an accusation', async () => {
    await withServers([honest(WRONG), honest()], [], async ({ fetcher, sources, refused }) => {
      assert.deepEqual(await fetcher.fetch(WANTED, sources, never), STATE)
      assert.deepEqual(refused, [])
    })
  })
})

/** Serves what was asked for, a chunk every few milliseconds. */
function slow(everyMs: number): Server {
  return (link) =>
    new Promise<void>((resolve) => {
      link.onFrame((_, payload) => {
        const { round, offset } = parseStateRequest(payload)
        const head = new Uint8Array(8)
        new DataView(head.buffer).setBigUint64(0, BigInt(STATE.byteLength), true)
        link.send({ kind: FRAME_KIND.stateHead, move: 0, round, chunk: 0 }, head)
        let at = offset
        const timer = setInterval(() => {
          link.send({ kind: FRAME_KIND.stateChunk, move: 0, round, chunk: 0 }, STATE.subarray(at, at + 100))
          at += 100
          if (at >= STATE.byteLength) clearInterval(timer)
        }, everyMs)
        link.onEnd(() => {
          clearInterval(timer)
          resolve()
        })
      })
    })
}

describe('a slow source', () => {
  // At 100 bytes a chunk the whole would take 2,001 chunks: 20 s and more.
  const quick = { ...LIMITS, stallMs: 200 }

  it('is left for another one, which goes on from there, and is not accused', async () => {
    const run = async ({ fetcher, sources, asked, refused }: Scene): Promise<void> => {
      assert.deepEqual(await fetcher.fetch(WANTED, sources, never), STATE)
      assert.deepEqual(
        asked.map(({ server }) => server),
        [1, 2],
      )
      assert.ok((asked[1]?.offset ?? 0) > 0)
      assert.deepEqual(refused, [])
    }
    await withServers([slow(10), honest()], [], run, quick)
  })
})

describe('a server of states', () => {
  /** The joiner's end of a link to a server, over memory. */
  const links = (server: StateServer, count: number) =>
    Array.from({ length: count }, (_, i) => {
      const carrier = new MemoryCarrier()
      const link = new SealedLink(carrier, KEYS, `peer${i}`, LIMITS)
      return { carrier, done: server.serve(link).catch((thrown: unknown) => thrown) }
    })
  const ask = (carrier: MemoryCarrier): void => {
    const request = encodeStateRequest({ ...WANTED, offset: 0 })
    const sealer = new FrameSealer(KEYS.receive)
    const frame = { kind: FRAME_KIND.stateRequest, move: 0, round: 7, chunk: 0 }
    carrier.arrive(sealer.seal(frame, request))
  }
  const counted = () => {
    const counts = { reads: 0 }
    const state = {
      current: () => ({ round: WANTED.round, hash: sha3_256(STATE) }),
      read: () => {
        counts.reads += 1
        return Promise.resolve(STATE.slice())
      },
      adopt: () => Promise.resolve(),
    }
    return { counts, state }
  }

  it('reads the state once for all who ask at the same time', async () => {
    const { counts, state } = counted()
    const all = links(new StateServer(state, LIMITS), 5)
    for (const { carrier } of all) ask(carrier)
    await new Promise(setImmediate)
    assert.ok(all.every(({ carrier }) => carrier.sent.length > 49))
    for (const { carrier } of all) carrier.abort(new RingError('PEER_LOST', 'has it all'))
    assert.deepEqual(await Promise.all(all.map(({ done }) => done)), Array<number>(5).fill(STATE.byteLength))
    assert.equal(counts.reads, 1)
  })

  it('gives up a peer that asks for nothing, or does not take what it asked for', async () => {
    const { counts, state } = counted()
    const [silent, full] = links(new StateServer(state, { ...LIMITS, stallMs: 20 }), 2)
    assert.ok(silent && full)
    ask(full.carrier)
    const [asked] = await Promise.all([silent.done, full.done])
    assert.equal(asked instanceof RingError && asked.code, 'TIMEOUT')
    assert.equal(full.carrier.end?.code, 'TIMEOUT')
    assert.equal(counts.reads, 1)
  })

  it('refuses when the state has changed while it was read', async () => {
    let bytes = STATE
    const state = {
      current: () => ({ round: WANTED.round, hash: sha3_256(bytes) }),
      read: () => {
        bytes = WRONG
        return Promise.resolve(bytes)
      },
      adopt: () => Promise.resolve(),
    }
    const [only] = links(new StateServer(state, LIMITS), 1)
    assert.ok(only)
    ask(only.carrier)
    assert.equal(await only.done, 0)
    const sent = only.carrier.sent.reduce((sum, part) => sum + part.byteLength, 0)
    assert.equal(sent, 32, 'one frame without payload: 16 bytes of header, 16 of tag')
  })

  it('has one transfer to a peer: a second request ends the first', async () => {
    const { state } = counted()
    const server = new StateServer(state, LIMITS)
    const [first] = links(server, 1)
    const [second] = links(server, 1)
    assert.ok(first && second)
    assert.equal(first.carrier.end?.code, 'PEER_LOST')
    assert.equal(second.carrier.end, null)
    second.carrier.abort(new RingError('PEER_LOST', 'enough'))
    await Promise.all([first.done, second.done])
  })
})

describe('a state on its way', () => {
  it('costs no object for each of its bytes when they come one by one, and refuses empty pieces', () => {
    const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => i % 251)
    const hash = Buffer.from(sha3_256(bytes)).toString('hex')
    const partial = new PartialState({ round: 1, hash }, 1_000_000)
    partial.announce(bytes.byteLength, 'a')
    assert.throws(() => partial.append(new Uint8Array(0), 'a'), { code: 'BAD_FRAME' })
    for (let at = 0; at < 200_000; at += 1) partial.append(bytes.subarray(at, at + 1), 'a')
    assert.equal(partial.pieces, Math.ceil(200_000 / 65_536))
    partial.append(bytes.subarray(200_000), 'a')
    assert.deepEqual(partial.verified(), bytes)
  })
})
