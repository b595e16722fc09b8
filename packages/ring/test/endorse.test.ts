/** What a member votes for: views that fit what it sees itself, one in a ballot, and whatever was proposed of good right. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import type { Ballot, Certificate, ViewMessage, ViewValue } from '../src/view/messages.ts'
import { provenBy } from './forge.ts'
import { MachineRig } from './machine-rig.ts'

const IDS = ['a', 'b', 'c', 'd', 'e']
const RESULT = 'aa'

const viewOf = (rig: MachineRig, id: string): ViewValue => {
  const { view } = rig.state(id).durable
  assert.ok(view !== null)
  return view
}

const next = (view: ViewValue, change: Partial<ViewValue> = {}): ViewValue => ({
  ...view,
  epoch: view.epoch + 1,
  ...change,
})

const without = (view: ViewValue, ...peers: string[]): ViewValue =>
  next(view, { members: view.members.filter(({ peer }) => !peers.includes(peer)) })

/** What `to` says to a proposal of `from`. */
function propose(
  rig: MachineRig,
  to: string,
  from: string,
  value: ViewValue,
  { n = 5, endorsement = null }: { n?: number; endorsement?: Certificate | null } = {},
): ViewMessage['t'][] {
  const { ringId, epoch } = value
  const before = rig.effects(to).length
  const ballot: Ballot = { n, peer: from }
  const message: ViewMessage = { t: 'propose', ringId, epoch, ballot, value, endorsement }
  rig.post(to, { on: 'message', from, message })
  return answers(rig, to, before)
}

/** Votes that a node has sent since. */
function answers(rig: MachineRig, id: string, since: number): ViewMessage['t'][] {
  const said = rig.effects(id).slice(since)
  return said.flatMap((effect) => {
    const kind = effect.do === 'send' ? effect.message.t : null
    return kind === 'endorsed' || kind === 'accepted' ? [kind] : []
  })
}

describe('a member endorses', () => {
  it('a view of those that it hears, and signs no second one in the same ballot, also after a restart', () => {
    const rig = new MachineRig(IDS)
    const view = viewOf(rig, 'a')
    assert.deepEqual(propose(rig, 'a', 'e', next(view)), ['endorsed'])
    const reversed = next(view, { members: [...view.members].reverse() })
    assert.deepEqual(propose(rig, 'a', 'e', reversed), [])
    assert.deepEqual(propose(rig, 'a', 'e', next(view)), ['endorsed'], 'the same again it may')
    rig.restart('a')
    assert.deepEqual(propose(rig, 'a', 'e', reversed), [])
  })

  it('no view without a member that it hears well, nor without itself', () => {
    for (const gone of [['c'], ['a'], ['a', 'b', 'c', 'd']]) {
      const rig = new MachineRig(IDS)
      assert.deepEqual(propose(rig, 'a', 'e', without(viewOf(rig, 'a'), ...gone)), [], gone.join())
    }
  })

  it('such a view after all when it sees itself that the member is gone, without being asked again', () => {
    const rig = new MachineRig(IDS)
    assert.deepEqual(propose(rig, 'a', 'e', without(viewOf(rig, 'a'), 'c')), [])
    const before = rig.effects('a').length
    rig.post('a', { on: 'disconnected', peer: 'c' })
    assert.ok(answers(rig, 'a', before).includes('endorsed'))
  })

  it('a view without one of two that cannot work with each other, and not without several for the sake of one', () => {
    const rig = new MachineRig(IDS)
    const accuse = (accuser: string, ...suspects: string[]): void => {
      const { said } = rig.state(accuser)
      assert.ok(said !== null)
      const message = { ...said, seq: said.seq + 1000, suspects }
      rig.post('a', { on: 'message', from: accuser, message })
    }
    accuse('e', 'c', 'd')
    const view = viewOf(rig, 'a')
    assert.deepEqual(
      propose(rig, 'a', 'e', without(view, 'c', 'd')),
      [],
      'e has trouble with two: it goes itself',
    )
    assert.deepEqual(propose(rig, 'a', 'e', without(view, 'c'), { n: 6 }), [])
    assert.deepEqual(propose(rig, 'a', 'b', without(view, 'e'), { n: 7 }), ['endorsed'])
  })

  it('no member that it has never met, and none twice', () => {
    const rig = new MachineRig(IDS)
    const view = viewOf(rig, 'a')
    const ghosts = ['x', 'y', 'z'].map((peer) => ({ peer, boot: 'x' }))
    assert.deepEqual(propose(rig, 'a', 'e', next(view, { members: [...view.members, ...ghosts] })), [])
    const twice = next(view, { members: [...view.members, ...view.members] })
    assert.deepEqual(propose(rig, 'a', 'e', twice, { n: 6 }), [])
  })

  it('no start that loses a round it holds, nor one that invents some', () => {
    const rig = new MachineRig(IDS)
    rig.computeRound(1, RESULT)
    rig.deliver()
    const view = viewOf(rig, 'a')
    const starts = [
      { round: 0, result: null },
      { round: 1, result: 'bb' },
      { round: 2, result: RESULT },
      { round: 2, result: null },
      { round: 1000, result: null },
    ]
    starts.forEach((start, i) => {
      assert.deepEqual(propose(rig, 'a', 'e', next(view, { start }), { n: 5 + i }), [], JSON.stringify(start))
    })
    assert.deepEqual(propose(rig, 'a', 'e', next(view, { start: { round: 1, result: RESULT } }), { n: 99 }), [
      'endorsed',
    ])
  })

  it('what a quorum has endorsed before, though it fits no more; not what somebody says they had', () => {
    const rig = new MachineRig(IDS)
    const view = viewOf(rig, 'a')
    const value = without(view, 'c')
    const earlier = { kind: 'endorse', ballot: { n: 2, peer: 'd' } } as const
    const forged = provenBy(['d', 'e'], view, value, earlier).certificate
    assert.deepEqual(propose(rig, 'a', 'e', value, { endorsement: forged }), [])
    const real = provenBy(['b', 'd', 'e'], view, value, earlier).certificate
    assert.deepEqual(propose(rig, 'a', 'e', value, { n: 6, endorsement: real }), ['endorsed'])
  })

  it('nothing else than what it has accepted, unless that was endorsed in a later ballot', () => {
    const rig = new MachineRig(IDS)
    const view = viewOf(rig, 'a')
    const value = without(view, 'c')
    const endorsed = (what: ViewValue, n: number) =>
      provenBy(['b', 'd', 'e'], view, what, { kind: 'endorse', ballot: { n, peer: 'e' } })
    const { ringId, epoch } = value
    rig.post('a', {
      on: 'message',
      from: 'e',
      message: { t: 'accept', ringId, epoch, ...endorsed(value, 5) },
    })
    assert.deepEqual(rig.durable('a').accepted?.value, value)
    assert.deepEqual(propose(rig, 'a', 'd', next(view), { n: 6 }), [])
    const older = endorsed(next(view), 4).certificate
    assert.deepEqual(propose(rig, 'a', 'd', next(view), { n: 7, endorsement: older }), [])
    const later = endorsed(next(view), 7).certificate
    assert.deepEqual(propose(rig, 'a', 'd', next(view), { n: 8, endorsement: later }), ['endorsed'])
  })
})

describe('a member accepts', () => {
  it('only what a quorum has endorsed in that ballot', () => {
    const rig = new MachineRig(IDS)
    const view = viewOf(rig, 'a')
    const value = next(view)
    const { ringId, epoch } = value
    const ballot = { n: 5, peer: 'e' }
    for (const proven of [
      provenBy(['d', 'e'], view, value, { kind: 'endorse', ballot }),
      provenBy(['c', 'd', 'e'], view, value, { kind: 'accept', ballot }),
    ]) {
      rig.post('a', { on: 'message', from: 'e', message: { t: 'accept', ringId, epoch, ...proven } })
      assert.equal(rig.durable('a').accepted, null)
    }
  })
})

describe('a proposer', () => {
  it('counts no promise that claims what cannot be, nor one that a liar has endorsed alone', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    rig.post('a', { on: 'disconnected', peer: 'b' })
    rig.post('a', { on: 'tick' })
    const { proposal } = rig.state('a')
    assert.ok(proposal !== null)
    const { epoch, ballot } = proposal
    const view = viewOf(rig, 'a')
    const empty = { accepted: null, prepared: null, held: null, reached: 0, start: view.start }
    const promise = { t: 'promise', ringId: view.ringId, epoch, ballot, ...empty } as const
    const alone = provenBy(['c'], view, without(view, 'a', 'b'), {
      kind: 'endorse',
      ballot: { n: 1, peer: 'c' },
    })
    const lies: Partial<typeof promise>[] = [
      { accepted: alone },
      { reached: 7 },
      { prepared: { round: 1, hash: 'cc' } },
      { start: { round: 3, result: null } },
    ].map((lie) => lie as Partial<typeof promise>)
    for (const lie of lies) {
      rig.post('a', { on: 'message', from: 'c', message: { ...promise, ...lie } })
      assert.equal(rig.state('a').proposal?.value, null, JSON.stringify(lie))
    }
    rig.post('a', { on: 'message', from: 'c', message: promise })
    assert.deepEqual(
      rig.state('a').proposal?.value?.members.map(({ peer }) => peer),
      ['a', 'c'],
    )
  })

  it('is not brought to the end of numbers by one that has none of its own', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    const { ringId } = viewOf(rig, 'a')
    const huge = { n: Number.MAX_SAFE_INTEGER, peer: 'c' }
    for (let i = 0; i < 5; i++) {
      rig.post('a', { on: 'message', from: 'c', message: { t: 'nack', ringId, epoch: 2, promised: huge } })
      rig.post('a', { on: 'message', from: 'c', message: { t: 'prepare', ringId, epoch: 2, ballot: huge } })
    }
    assert.ok(rig.state('a').highestBallot <= 1_000_000)
    assert.equal(rig.durable('a').promised, null)
  })
})
