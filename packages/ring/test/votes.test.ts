/** Signed votes, and that nobody is believed without them: what lies do not get past an honest member. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createIdentity } from '@gym-node/wire'
import { ed25519Signer } from '../src/view/ed25519-signer.ts'
import type { Proven, StatusMessage, ViewMessage, ViewValue } from '../src/view/messages.ts'
import { EMPTY_DURABLE } from '../src/view/state.ts'
import { decodeDurable, encodeDurable } from '../src/view/store-codec.ts'
import { voteBytes, type Question } from '../src/view/vote.ts'
import { provenBy } from './forge.ts'
import { MachineRig } from './machine-rig.ts'

const IDS = ['a', 'b', 'c', 'd', 'e']

const viewOf = (rig: MachineRig, id: string): ViewValue => {
  const { view } = rig.state(id).durable
  assert.ok(view !== null)
  return view
}

const say = (rig: MachineRig, to: string, from: string, message: ViewMessage): void =>
  rig.post(to, { on: 'message', from, message })

const decide = (rig: MachineRig, to: string, path: readonly Proven[]): void =>
  say(rig, to, 'z', { t: 'decided', path: [...path] })

/** The view after one, of the same members unless told otherwise. */
const after = (view: ViewValue, without: readonly string[] = []): ViewValue => ({
  ...view,
  epoch: view.epoch + 1,
  members: view.members.filter(({ peer }) => !without.includes(peer)),
})

describe('what is signed', () => {
  const view = (epoch: number, members: [string, string][], round: number, result: string | null) => ({
    ringId: 'ab'.repeat(16),
    epoch,
    members: members.map(([peer, boot]) => ({ peer, boot })),
    start: { round, result },
  })
  const before = view(
    7,
    [
      ['a', 'a.1'],
      ['b', 'b.2'],
    ],
    3,
    null,
  )
  const value = view(
    8,
    [
      ['b', 'b.2'],
      ['é', 'c.1'],
    ],
    4,
    '00ff',
  )
  const question: Question = { kind: 'accept', job: 'a job', before, ballot: { n: 2, peer: 'a' }, value }

  it('are these bytes (made with hashlib and json of Python), signed so by openssl with the key of RFC 8032 7.1, test 1', () => {
    const message = voteBytes(question)
    assert.equal(message.byteLength, 217)
    assert.equal(
      createHash('sha3-256').update(message).digest('hex'),
      '77396e8480f2d4727fe91a20d6431eb1e7557e4e45dddfce428429ab0ab9480f',
    )
    const seed = Buffer.from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex')
    const identity = createIdentity({ ed25519: seed, mlDsa87: new Uint8Array(32) })
    const signer = ed25519Signer(identity)
    const expected =
      '19d0a2be264abbcd72e6e12e54a0fb50d2360d63677e229abb2645cdbebfc1542f0a79cab807b92c6a6878ee0279ea72fd61161929168be3a38850454f4d530f'
    assert.equal(Buffer.from(signer.sign(message)).toString('hex'), expected)
    assert.ok(signer.verify(identity.peerId, message, Buffer.from(expected, 'hex')))
    assert.ok(!signer.verify(identity.peerId, message.subarray(1), Buffer.from(expected, 'hex')))
    assert.ok(!signer.verify('not a peer id', message, Buffer.from(expected, 'hex')))
  })

  it('differ for every other question', () => {
    const others: Question[] = [
      question,
      { ...question, kind: 'endorse' },
      { ...question, job: 'another' },
      { ...question, before: null },
      { ...question, before: { ...before, start: { round: 2, result: null } } },
      { ...question, ballot: { n: 3, peer: 'a' } },
      { ...question, ballot: { n: 2, peer: 'b' } },
      { ...question, value: { ...value, members: [...value.members].reverse() } },
      { ...question, value: { ...value, ringId: 'cd' } },
      { ...question, value: { ...value, start: { round: 4, result: null } } },
    ]
    assert.equal(new Set(others.map((q) => Buffer.from(voteBytes(q)).toString('hex'))).size, others.length)
  })
})

describe('a decision', () => {
  it('is believed from anybody with the votes of a quorum', () => {
    const rig = new MachineRig(IDS)
    const before = viewOf(rig, 'a')
    decide(rig, 'a', [provenBy(['b', 'c', 'd'], before, after(before, ['e']))])
    assert.equal(viewOf(rig, 'a').epoch, 2)
  })

  it('is believed from nobody, a member or not, without them', () => {
    const rig = new MachineRig(IDS)
    const before = viewOf(rig, 'a')
    const value = after(before, ['a', 'b', 'c', 'd'])
    const proven = provenBy(['e', 'd'], before, value)
    const right = provenBy(['c', 'd', 'e'], before, value)
    const { certificate } = right
    const half = Buffer.from(certificate.signatures, 'base64').subarray(0, 64)
    const forgeries: Record<string, Proven> = {
      'too few': proven,
      'one voter at three places': {
        value,
        certificate: { ...certificate, signatures: Buffer.concat([half, half, half]).toString('base64') },
      },
      'one place three times': { value, certificate: { ...certificate, voters: [4, 4, 4] } },
      'places that nobody has': { value, certificate: { ...certificate, voters: [4, 5, 6] } },
      'fewer signatures than voters': {
        value,
        certificate: { ...certificate, signatures: half.toString('base64') },
      },
      'votes of others': provenBy(['x', 'y', 'z'], { ...before, members: after(before).members }, value),
      'votes for another view': {
        value,
        certificate: provenBy(['c', 'd', 'e'], before, after(before)).certificate,
      },
      'endorsements only': provenBy(['c', 'd', 'e'], before, value, { kind: 'endorse' }),
      'votes in another job': provenBy(['c', 'd', 'e'], before, value, { job: 'other' }),
      'votes of members of a view that never was': provenBy(
        ['c', 'd', 'e'],
        { ...before, start: { round: 5, result: null } },
        value,
      ),
      'another ballot than was signed': {
        value,
        certificate: { ...certificate, ballot: { n: 9, peer: 'e' } },
      },
    }
    for (const [what, forged] of Object.entries(forgeries)) {
      for (const from of ['e', 'z']) {
        say(rig, 'a', from, { t: 'decided', path: [forged] })
        assert.equal(viewOf(rig, 'a').epoch, 1, `${what} from ${from}`)
      }
    }
    decide(rig, 'a', [right])
    assert.equal(
      viewOf(rig, 'a').epoch,
      2,
      'the same with three votes is one: votes decide, not what is voted for',
    )
  })

  it('is checked once: the same proof again asks nobody for signatures', () => {
    const rig = new MachineRig(IDS)
    const before = viewOf(rig, 'a')
    decide(rig, 'a', [provenBy(['b', 'c', 'd'], before, after(before))])
    assert.equal(rig.state('a').verified.size, 1)
    decide(rig, 'a', [provenBy(['b', 'c', 'd'], before, after(before))])
    assert.equal(rig.state('a').verified.size, 1)
    for (let i = 0; i < 40; i++) {
      const view = viewOf(rig, 'a')
      decide(rig, 'a', [provenBy(['b', 'c', 'd'], view, after(view))])
    }
    assert.equal(viewOf(rig, 'a').epoch, 42)
    assert.ok(rig.state('a').verified.size <= 16, 'and what was checked is not remembered without end')
    assert.ok(rig.durable('a').path.length <= 16)
    assert.deepEqual(decodeDurable(encodeDurable(rig.durable('a'))), rig.durable('a'))
  })
})

describe('a stored view', () => {
  it('of a version without signed votes is given up, and said so', () => {
    const body = JSON.stringify({ version: 1, view: null, promised: null, accepted: null, prepared: null })
    const bytes = Buffer.from(`${createHash('sha3-256').update(body).digest('hex')} ${body}\n`)
    let told = 0
    assert.deepEqual(
      decodeDurable(bytes, () => (told += 1)),
      EMPTY_DURABLE,
    )
    assert.equal(told, 1)
  })
})

describe('a node that has missed views', () => {
  it('follows a path of which every step has its votes, and no other', () => {
    const rig = new MachineRig(IDS)
    const first = viewOf(rig, 'a')
    const second = provenBy(['b', 'c', 'd'], first, after(first, ['e']))
    const third = provenBy(['b', 'c', 'd'], second.value, after(second.value))
    const broken = { ...second, certificate: { ...second.certificate, ballot: { n: 7, peer: 'b' } } }
    decide(rig, 'a', [broken, provenBy(['e'], second.value, third.value)])
    assert.equal(viewOf(rig, 'a').epoch, 1)
    decide(rig, 'a', [second, third])
    assert.equal(viewOf(rig, 'a').epoch, 3)
  })

  it('leaps over views that nobody remembers, when a quorum of its own view has voted for the last', () => {
    const rig = new MachineRig(IDS)
    const first = viewOf(rig, 'a')
    const strangers = ['x', 'y'].map((peer) => ({ peer, boot: 'x.1' }))
    const late = { ...first, epoch: 30, members: [...first.members.slice(1), ...strangers] }
    const unproven = provenBy([], first, late)
    const last = after(late)
    decide(rig, 'a', [unproven, provenBy(['b', 'c', 'x', 'y'], late, last)])
    assert.equal(viewOf(rig, 'a').epoch, 1, 'two of its five are no quorum')
    decide(rig, 'a', [unproven, provenBy(['b', 'c', 'd', 'x'], late, last)])
    assert.equal(viewOf(rig, 'a').epoch, 31)
  })

  it('believes members that it does not know only when its own have long been gone, and more say so than others', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    const view = viewOf(rig, 'c')
    const line = { ...view, epoch: 8, members: [{ peer: 'z', boot: 'z.1' }] }
    const last = after(line)
    const path = [provenBy([], view, line), provenBy(['z'], line, last)]
    const status = { ...statusOf(rig, 'a'), boot: 'z.1', epoch: 8, viewId: idOf(line) }
    say(rig, 'c', 'z', status)
    decide(rig, 'c', path)
    assert.equal(viewOf(rig, 'c').epoch, 1, 'its own are there')
    for (const peer of ['a', 'b']) rig.post('c', { on: 'disconnected', peer })
    decide(rig, 'c', path)
    assert.equal(viewOf(rig, 'c').epoch, 1, 'they are only just gone')
    let seq = 100
    for (let i = 0; i < 250; i++) {
      rig.now += 50
      rig.post('c', { on: 'tick' })
      say(rig, 'c', 'z', { ...status, seq: seq++ })
    }
    decide(rig, 'c', [provenBy([], view, line), provenBy([], line, last)])
    assert.equal(viewOf(rig, 'c').epoch, 1, 'the votes must be right all the same')
    decide(rig, 'c', path)
    assert.equal(viewOf(rig, 'c').epoch, 9)
  })
})

describe('a newcomer that dies before it hears of the view that takes it in', () => {
  /** The view of a ring of z that takes in a process of c, as z tells c of it. */
  const taken = (rig: MachineRig, boot: string): Proven[] => {
    const line = { ...viewOf(new MachineRig(['a']), 'a'), epoch: 8, members: [{ peer: 'z', boot: 'z.1' }] }
    const last = { ...line, epoch: 9, members: [...line.members, { peer: 'c', boot }] }
    const status = { ...statusOf(rig, 'c'), boot: 'z.1', ringId: line.ringId, epoch: 9, viewId: idOf(last) }
    say(rig, 'c', 'z', { ...status, active: true })
    return [provenBy([], line, line), provenBy(['z'], line, last)]
  }
  const restarted = (): MachineRig => {
    const rig = new MachineRig(['c', 'd'], 'two-thirds', { form: false })
    rig.tick(1)
    const [first] = rig.effects('c')
    assert.ok(first?.do === 'persist', 'who it is is on disk before it is said')
    assert.deepEqual(first.durable.boots, ['c.1'])
    rig.restart('c')
    rig.tick(1)
    assert.deepEqual(rig.durable('c').boots, ['c.1', 'c.2'])
    return rig
  }

  it('votes there when it is back: in no view since, it cannot have voted before', () => {
    const rig = restarted()
    decide(rig, 'c', taken(rig, 'c.1'))
    assert.equal(viewOf(rig, 'c').epoch, 9)
    assert.deepEqual(rig.durable('c').boots, [], 'and from here on older names of it may have voted')
  })

  it('does not vote where it may have voted under a name that it does not remember', () => {
    const rig = restarted()
    decide(rig, 'c', taken(rig, 'c.0'))
    assert.equal(rig.state('c').durable.view, null)
  })
})

/** What a node said last of itself. */
function statusOf(rig: MachineRig, id: string): StatusMessage {
  const { said } = rig.state(id)
  assert.ok(said !== null)
  return said
}

/** The name of a view as statuses tell it. */
function idOf(view: ViewValue): string {
  const members = view.members.map(({ peer, boot }) => [peer, boot])
  const text = JSON.stringify([view.ringId, view.epoch, members, [view.start.round, view.start.result]])
  return createHash('sha3-256').update(text).digest('hex').slice(0, 32)
}

describe('another ring of the same job', () => {
  const other = (rig: MachineRig, boot: string): StatusMessage => ({
    ...statusOf(rig, 'a'),
    boot,
    ringId: 'ff',
    epoch: 3,
    viewId: 'ff',
    state: { round: 9, hash: '99' },
  })

  it('is not believed in by a ring that is larger, whatever one peer claims of it', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    for (const peer of ['x', 'y']) say(rig, 'a', peer, other(rig, `${peer}.1`))
    assert.notEqual(rig.durable('a').view, null)
  })

  it('takes its nodes when more peers are in it, each under a new name, so that it is never again who it was', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    const before = viewOf(rig, 'a')
    for (const peer of ['w', 'x', 'y', 'z']) say(rig, 'a', peer, other(rig, `${peer}.1`))
    assert.equal(rig.durable('a').view, null)
    decide(rig, 'a', [provenBy(['b', 'c'], before, after(before))])
    assert.equal(rig.durable('a').view, null, 'its old ring names it no more')
  })
})

describe('peers that come and go', () => {
  it('are forgotten a while after they have gone, all but the members of the view', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    for (let i = 0; i < 50; i++) {
      const message = { ...statusOf(rig, 'b'), boot: `x.${i}`, ringId: null, viewId: null, epoch: 0 }
      say(rig, 'a', `x${i}`, message)
    }
    rig.post('a', { on: 'disconnected', peer: 'c' })
    assert.equal(rig.state('a').peers.size, 52)
    for (let i = 0; i < 25; i++) {
      rig.now += 1000
      rig.post('a', { on: 'connected', peer: 'b' })
      rig.post('a', { on: 'tick' })
    }
    assert.deepEqual([...rig.state('a').peers.keys()].sort(), ['b', 'c'])
  })
})
