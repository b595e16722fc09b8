/**
 * A member of a real ring that speaks the real protocol over real connections, and lies about what was decided: the
 * others stay where they are, and go on without it.
 */
import { after, describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { peerIdFromString } from '@libp2p/peer-id'
import type { Libp2p } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import type { Identity } from '@gym-node/wire'
import { CONTROL_PROTOCOL, DEFAULT_LIMITS } from '../src/defaults.ts'
import { ControlChannel } from '../src/net/control-channel.ts'
import { StreamCarrier } from '../src/net/stream-carrier.ts'
import { certify } from '../src/view/certificate.ts'
import { ed25519Signer } from '../src/view/ed25519-signer.ts'
import type { Proven, StatusMessage, ViewMessage, ViewValue } from '../src/view/messages.ts'
import { voteBytes, type Question, type VoteKind } from '../src/view/vote.ts'
import { startBareNode, until } from './net-rig.ts'
import { deadline, identityOf, startNode, stopAll, type RigNode } from './rig.ts'

const JOB = 'test'
const BOOT = 'hostile'

/** Speaks the control protocol by hand: as honest as it takes to found a ring with others, and then as told. */
class HostilePeer {
  readonly node: Libp2p
  readonly heard: { readonly from: string; readonly message: ViewMessage }[] = []
  readonly #identity: Identity
  readonly #channels: ControlChannel[] = []
  #seq = 0

  constructor(node: Libp2p, identity: Identity) {
    this.node = node
    this.#identity = identity
  }

  async meet({ ring }: RigNode): Promise<void> {
    await this.node.dial(ring.addresses.map((address) => multiaddr(address)))
    const stream = await this.node.dialProtocol(peerIdFromString(ring.peerId), CONTROL_PROTOCOL)
    const channel = new ControlChannel(new StreamCarrier(stream), ring.peerId, DEFAULT_LIMITS, {
      onHello: () => undefined,
      onMessage: (message) => {
        if (message.t !== 'paths' && message.t !== 'peers') this.heard.push({ from: ring.peerId, message })
      },
      onEnd: () => undefined,
    })
    this.#channels.push(channel)
    channel.send({ t: 'hello', version: 1, job: JOB, boot: BOOT, addresses: [], peers: [] })
    this.beat(channel, null)
  }

  /** Says that it lives, in a view or in none. */
  beat(channel: ControlChannel | null, view: ViewValue | null): void {
    this.#seq += 1
    const said: StatusMessage = {
      t: 'status',
      seq: this.#seq,
      boot: BOOT,
      ringId: view?.ringId ?? null,
      epoch: view?.epoch ?? 0,
      viewId: null,
      active: view !== null,
      leaving: false,
      state: { round: 0, hash: '' },
      committed: null,
      suspects: [],
      abandoned: false,
      turn: null,
    }
    for (const to of channel === null ? this.#channels : [channel]) to.send(said)
  }

  say(message: ViewMessage): void {
    for (const channel of this.#channels) channel.send(message)
  }

  sign(question: Question): Uint8Array {
    return ed25519Signer(this.#identity).sign(voteBytes(question))
  }

  /** What the others have said of one kind, by who said it last. */
  last<T extends ViewMessage['t']>(kind: T): Map<string, Extract<ViewMessage, { t: T }>> {
    const isKind = (m: ViewMessage): m is Extract<ViewMessage, { t: T }> => m.t === kind
    return new Map(this.heard.flatMap(({ from, message }) => (isKind(message) ? [[from, message]] : [])))
  }
}

describe('a hostile member', () => {
  const nodes: RigNode[] = []
  let hostile: HostilePeer | null = null
  after(async () => {
    await hostile?.node.stop()
    await stopAll(nodes)
  })

  it('forges decisions, and the others stay in their view and go on without it', async () => {
    const signal = deadline(nodes)
    // The lowest id opens control streams; these four are taken so that it is the liar's.
    const ids = Array.from({ length: 8 }, (_, n) => n).sort((a, b) =>
      identityOf(a).peerId < identityOf(b).peerId ? -1 : 1,
    )
    const [liar, ...honest] = ids.slice(0, 4)
    const identity = identityOf(liar)
    const bootstrap: string[] = []
    for (const n of honest) {
      const node = await startNode(n, { minMembers: 4, bootstrap: [...bootstrap], job: JOB })
      bootstrap.push(...node.ring.addresses)
      nodes.push(node)
    }
    const peer = new HostilePeer(await startBareNode(identity), identity)
    hostile = peer
    for (const node of nodes) await peer.meet(node)
    await until(() => peer.last('status').size === nodes.length, signal)
    const { view, founding } = await found(peer, identity.peerId, signal)
    await until(() => nodes.every(({ ring }) => ring.view?.members.length === 4), signal)

    for (const path of forgeries(peer, identity.peerId, view, founding)) peer.say({ t: 'decided', path })
    for (const value of [alone(view, identity.peerId), ahead(view)]) {
      const scope = { ringId: view.ringId, epoch: value.epoch }
      const ballot = { n: 50 + value.members.length, peer: identity.peerId }
      peer.say({ t: 'propose', ...scope, ballot, value, endorsement: null })
    }
    // An answer to what comes after them on the same streams: all of it was heard.
    peer.heard.length = 0
    const scope = { ringId: view.ringId, epoch: view.epoch, ballot: { n: 1, peer: identity.peerId } }
    peer.say({ t: 'prepare', ...scope })
    await until(() => (peer.beat(null, view), peer.last('decided').size === nodes.length), signal)
    assert.equal(peer.last('endorsed').size + peer.last('accepted').size, 0, 'nobody has voted for its views')
    for (const { ring } of nodes) assert.equal(ring.view?.epoch, 1, 'nobody has followed')

    await peer.node.stop()
    await until(() => nodes.every(({ ring }) => ring.view?.members.length === 3), signal)
    await Promise.all(nodes.map(({ ring }) => ring.ready({ signal })))
    const vector = Float32Array.of(1, 2, 3)
    const results = await Promise.all(
      nodes.map(({ ring }) => ring.allReduce(vector, { round: 1, weight: 1, signal })),
    )
    for (const { mean } of results) assert.deepEqual([...mean], [1, 2, 3])
  })
})

/** Founds a ring of itself and all it has met, as the lowest of them has to. */
async function found(
  peer: HostilePeer,
  self: string,
  signal: AbortSignal,
): Promise<{ view: ViewValue; founding: Proven['certificate'] }> {
  const others = [...peer.last('status')].map(([id, { boot }]) => ({ peer: id, boot }))
  const members = [{ peer: self, boot: BOOT }, ...others].sort((a, b) => (a.peer < b.peer ? -1 : 1))
  const names = JSON.stringify([JOB, members.map((m) => [m.peer, m.boot])])
  const ringId = createHash('sha3-256').update(names).digest('hex').slice(0, 32)
  const view: ViewValue = { ringId, epoch: 1, members, start: { round: 0, result: null } }
  const ballot = { n: 0, peer: self }
  const question: Question = { kind: 'genesis', job: JOB, before: null, ballot, value: view }
  peer.say({ t: 'genesis', value: view })
  await until(() => (peer.beat(null, null), peer.last('genesis-ack').size === others.length), signal)
  const votes = new Map<string, Uint8Array>([[self, peer.sign(question)]])
  for (const [id, ack] of peer.last('genesis-ack')) votes.set(id, Buffer.from(ack.signature, 'base64'))
  const founding = certify(question, votes)
  peer.say({ t: 'decided', path: [{ value: view, certificate: founding }] })
  return { view, founding }
}

const alone = (view: ViewValue, peer: string): ViewValue => ({
  ...view,
  epoch: view.epoch + 1,
  members: [{ peer, boot: BOOT }],
})

const ahead = (view: ViewValue): ViewValue => ({
  ...view,
  epoch: view.epoch + 1,
  start: { round: 9, result: '00' },
})

/** Its own vote, its own vote everywhere, a founding's signatures for something else, a line of views of its own. */
function forgeries(
  liar: HostilePeer,
  peer: string,
  view: ViewValue,
  founding: Proven['certificate'],
): Proven[][] {
  const ballot = { n: 1, peer }
  const by = (kind: VoteKind, before: ViewValue, value: ViewValue): Proven => {
    const question: Question = { kind, job: JOB, before, ballot, value }
    return { value, certificate: certify(question, new Map([[peer, liar.sign(question)]])) }
  }
  const value = alone(view, peer)
  const signature = Buffer.from(by('accept', view, value).certificate.signatures, 'base64')
  const everywhere = Buffer.concat(view.members.map(() => signature)).toString('base64')
  const far = { ...value, epoch: 900 }
  return [
    [by('accept', view, value)],
    [{ value, certificate: { ballot, voters: view.members.map((_, i) => i), signatures: everywhere } }],
    [{ value, certificate: founding }],
    [by('accept', view, value), by('accept', value, { ...value, epoch: 3 })],
    [by('accept', view, far), by('accept', far, { ...far, epoch: 901 })],
  ]
}
