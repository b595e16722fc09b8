/**
 * The rules that the checked specification shows to be necessary (spec/README.md, "That it can fail"), each one against
 * the real machine: the story that breaks a ring without the rule is played, and must end well.
 */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import type { Ballot, Promised, Start } from '../src/view/messages.ts'
import { provenBy } from './forge.ts'
import { MachineRig, type Envelope } from './machine-rig.ts'

const RESULT = 'aa'
const is =
  (t: Envelope['message']['t'], from?: string, to?: string) =>
  (e: Envelope): boolean =>
    e.message.t === t && (from === undefined || e.from === from) && (to === undefined || e.to === to)

const commits = (rig: MachineRig, id: string): number[] =>
  rig.effects(id).flatMap((effect) => (effect.do === 'commit' ? [effect.round] : []))

/** The ring id of the only ring. */
const ringOf = (rig: MachineRig, id: string): string => rig.state(id).durable.view?.ringId ?? ''

/** The last answer of a node to a proposer. */
function lastAnswer(rig: MachineRig, id: string): Envelope['message'] | undefined {
  return rig
    .effects(id)
    .flatMap((effect) => (effect.do === 'send' ? [effect.message] : []))
    .findLast((message) => message.t === 'promise' || message.t === 'nack')
}

function prepare(rig: MachineRig, from: string, to: string, n: number): void {
  const ballot: Ballot = { n, peer: from }
  const epoch = (rig.state(to).durable.view?.epoch ?? 0) + 1
  rig.post(to, { on: 'message', from, message: { t: 'prepare', ringId: ringOf(rig, to), epoch, ballot } })
}

/** `to` hears a promise for its open ballot, with this report. */
function promise(rig: MachineRig, from: string, to: string, report: Partial<Promised>): void {
  const { proposal } = rig.state(to)
  assert.ok(proposal !== null, `${to} has no open ballot`)
  const start: Start = { round: 0, result: null }
  const empty = { accepted: null, prepared: null, held: null, reached: 0, start }
  const scope = { ringId: ringOf(rig, to), epoch: proposal.epoch, ballot: proposal.ballot }
  rig.post(to, { on: 'message', from, message: { t: 'promise', ...scope, ...empty, ...report } })
}

/** Makes a node open a ballot: it has lost sight of `lost`. */
function openBallot(rig: MachineRig, id: string, lost: string): void {
  rig.post(id, { on: 'disconnected', peer: lost })
  for (let i = 0; i < 40 && rig.state(id).proposal === null; i++) {
    rig.now += 25
    // Only this node's clock runs, so the others must be heard to stay alive.
    for (const other of ['a', 'b', 'c'])
      if (other !== id && other !== lost) rig.post(id, { on: 'connected', peer: other })
    rig.post(id, { on: 'tick' })
  }
  assert.ok(rig.state(id).proposal !== null, `${id} opens a ballot`)
}

/** The value that a proposer has asked others to accept. */
const proposed = (rig: MachineRig, id: string) => rig.state(id).proposal?.value ?? null

describe('a round', () => {
  it('is not committed when all have said done: a majority must have prepared', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    rig.computeRound(1, RESULT)
    rig.deliver(is('status', undefined, 'a'))
    assert.deepEqual(rig.durable('a').prepared, { round: 1, hash: RESULT }, 'a has prepared')
    assert.deepEqual(commits(rig, 'a'), [], 'and nobody else is known to have')
    rig.deliver(is('status', undefined, 'b'))
    assert.deepEqual(commits(rig, 'b'), [1], 'b knows of two')
  })

  it('cannot be prepared by a member that has promised for the next view', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    rig.computeRound(1, RESULT)
    prepare(rig, 'c', 'a', 7)
    const report = lastAnswer(rig, 'a')
    assert.ok(report?.t === 'promise' && report.prepared === null)
    rig.deliver(is('status', undefined, 'a'))
    assert.equal(rig.durable('a').prepared, null, 'what the promise said stays true')
    assert.deepEqual(commits(rig, 'a'), [])
  })

  it('is stored with its result before anything says that it is prepared', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    rig.computeRound(1, RESULT)
    rig.deliver(is('status', undefined, 'a'))
    const effects = rig.effects('a')
    const stored = effects.findIndex((e) => e.do === 'persist' && e.withResult)
    const said = effects.findIndex(
      (e) => e.do === 'send' && e.message.t === 'status' && e.message.turn?.prepared === true,
    )
    assert.ok(stored >= 0 && said > stored, `stored at ${stored}, said at ${said}`)
  })

  it('is committed from disk by whoever prepared it, when all lost power before any wrote its state', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    rig.computeRound(1, RESULT)
    rig.deliver()
    assert.deepEqual(commits(rig, 'a'), [1])
    for (const id of ['a', 'b', 'c']) rig.restart(id)
    for (let i = 0; i < 60; i++) rig.pass(50)
    for (const id of ['a', 'b', 'c']) {
      assert.deepEqual(rig.state(id).durable.view?.start, { round: 1, result: RESULT })
      rig.contribute(id, 1)
      assert.deepEqual(commits(rig, id), [1], `${id} hands the stored result out`)
    }
  })
})

describe('a ballot', () => {
  it('of a proposer is given up when it promises a higher one', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    openBallot(rig, 'b', 'a')
    const before = rig.state('b').proposal
    assert.ok(before !== null)
    prepare(rig, 'c', 'b', before.ballot.n + 5)
    assert.equal(rig.state('b').proposal, null)
    rig.drop()
    const { epoch, ballot } = before
    const start: Start = { round: 0, result: null }
    const late = { accepted: null, prepared: null, held: null, reached: 0, start }
    const message = { t: 'promise', ringId: ringOf(rig, 'b'), epoch, ballot, ...late } as const
    rig.post('b', { on: 'message', from: 'c', message })
    assert.equal(rig.waiting.filter(is('accept')).length, 0, 'a late promise for it asks nobody to accept')
  })

  it('that is lower than the promised one is refused, also after a restart', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    prepare(rig, 'c', 'a', 7)
    const stored = rig.effects('a').findIndex((e) => e.do === 'persist' && e.durable.promised?.n === 7)
    const said = rig.effects('a').findIndex((e) => e.do === 'send' && e.message.t === 'promise')
    assert.ok(stored >= 0 && said > stored, 'durable before it is said')
    rig.restart('a')
    prepare(rig, 'b', 'a', 6)
    assert.equal(lastAnswer(rig, 'a')?.t, 'nack')
    assert.ok((rig.durable('a').promised?.n ?? 0) >= 7)
    const value = { ringId: ringOf(rig, 'a'), epoch: 2, members: [], start: { round: 0, result: null } }
    const ballot = { n: 6, peer: 'b' }
    const { certificate } = provenBy(['b', 'c'], rig.state('a').durable.view, value, {
      kind: 'endorse',
      ballot,
    })
    const accept = { t: 'accept', ringId: ringOf(rig, 'a'), epoch: 2, value, certificate } as const
    rig.post('a', { on: 'message', from: 'b', message: accept })
    assert.equal(rig.durable('a').accepted, null, 'nor accepted')
  })

  it('takes an already accepted value over its own wish', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    openBallot(rig, 'b', 'a')
    const members = [{ peer: 'c', boot: 'c.1' }]
    const value = { ringId: ringOf(rig, 'b'), epoch: 2, members, start: { round: 0, result: null } }
    const before = rig.state('b').durable.view
    const ballot = { n: 1, peer: 'a' }
    promise(rig, 'c', 'b', { accepted: provenBy(['a', 'c'], before, value, { kind: 'endorse', ballot }) })
    assert.deepEqual(proposed(rig, 'b'), value)
  })

  it('needs a majority of the view: whoever is alone decides nothing, however long it waits', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    rig.part('a', 'b')
    rig.part('a', 'c')
    for (let i = 0; i < 200; i++) {
      rig.now += 50
      rig.post('a', { on: 'tick' })
      rig.drop(({ from, to }) => from === 'a' || to === 'a')
    }
    assert.equal(rig.state('a').durable.view?.epoch, 1)
  })

  it('with quorum any is won by whoever is left: the reason why that quorum is not safe', () => {
    const rig = new MachineRig(['a', 'b', 'c'], 'any')
    rig.part('a', 'b')
    rig.part('a', 'c')
    for (let i = 0; i < 40; i++) {
      rig.now += 50
      rig.post('a', { on: 'tick' })
    }
    assert.deepEqual(
      rig.state('a').durable.view?.members.map((m) => m.peer),
      ['a'],
    )
  })
})

describe('the start of the next view', () => {
  const start = (rig: MachineRig): Start | undefined => proposed(rig, 'b')?.start

  it('is the round that a promise has prepared and whose result somebody holds', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    rig.computeRound(1, RESULT)
    openBallot(rig, 'b', 'a')
    const mark = { round: 1, hash: RESULT }
    promise(rig, 'c', 'b', { prepared: mark, held: mark })
    assert.deepEqual(start(rig), { round: 1, result: RESULT })
  })

  it('is never before the round that a promiser has reached', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    rig.computeRound(1, RESULT)
    openBallot(rig, 'b', 'a')
    promise(rig, 'c', 'b', { reached: 1 })
    assert.deepEqual(
      start(rig),
      { round: 1, result: RESULT },
      'all of the view have computed what it committed',
    )
  })

  it('reports what this node inherited: its promise names the start of its own view and its reached round', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    rig.computeRound(1, RESULT)
    rig.deliver()
    for (const id of ['a', 'b', 'c']) rig.apply(id, { round: 1, hash: '11' })
    rig.deliver()
    prepare(rig, 'c', 'a', 3)
    const report = lastAnswer(rig, 'a')
    assert.ok(report?.t === 'promise')
    assert.deepEqual(report.start, { round: 0, result: null })
    assert.equal(report.reached, 1)
    assert.deepEqual(report.prepared, { round: 1, hash: RESULT })
  })

  it('is passed on by members that never got its state', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    rig.computeRound(1, RESULT)
    rig.deliver()
    for (const id of ['a', 'b', 'c']) rig.restart(id)
    for (let i = 0; i < 60; i++) rig.pass(50)
    prepare(rig, 'c', 'a', 99)
    const report = lastAnswer(rig, 'a')
    assert.ok(report?.t === 'promise')
    assert.equal(report.reached, 0, 'this process has no state of round 1')
    assert.deepEqual(report.start, { round: 1, result: RESULT })
  })

  it('waits for the missing member when a prepared result is held by none of those who have promised', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    rig.computeRound(1, RESULT)
    rig.restart('b', { keepsResult: false })
    openBallot(rig, 'b', 'a')
    promise(rig, 'c', 'b', { prepared: { round: 1, hash: RESULT } })
    assert.equal(proposed(rig, 'b'), null, 'a may have committed it')
    promise(rig, 'a', 'b', {})
    assert.deepEqual(start(rig), { round: 0, result: null }, 'all have promised and none has it: run again')
  })

  it('stays, once a view was agreed that starts after the round, though all have lost the result', () => {
    const rig = new MachineRig(['a', 'b', 'c'])
    rig.computeRound(1, RESULT)
    rig.deliver()
    for (const id of ['a', 'b', 'c']) rig.restart(id)
    for (let i = 0; i < 60; i++) rig.pass(50)
    openBallot(rig, 'b', 'a')
    promise(rig, 'c', 'b', { start: { round: 1, result: RESULT } })
    assert.deepEqual(start(rig), { round: 1, result: RESULT })
  })
})

describe('a genesis', () => {
  it('that a member accepted and then died is joined by it as a voter, or a ring of two could never go on', () => {
    const rig = new MachineRig(['a', 'b'], 'majority', { form: false })
    for (let i = 0; i < 20 && rig.waiting.every((e) => e.message.t !== 'genesis-ack'); i++) {
      rig.tick(50)
      rig.deliver((e) => e.message.t !== 'genesis-ack')
    }
    assert.equal(rig.durable('b').invited.length, 1, 'on disk before the acceptance is sent')
    rig.deliver(is('genesis-ack'))
    assert.equal(rig.durable('a').view?.epoch, 1, 'a has founded the ring')
    rig.restart('b')
    assert.equal(rig.durable('b').view, null, 'b never heard of it')
    for (let i = 0; i < 60; i++) rig.pass(50)
    const members = (id: string) => rig.durable(id).view?.members.map((m) => m.boot)
    assert.deepEqual(members('a'), ['a.1', 'b.2'])
    assert.deepEqual(members('b'), ['a.1', 'b.2'])
  })
})
