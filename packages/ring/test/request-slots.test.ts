/** Who gets a slot when more ask than are answered at once. Expected decisions are worked out by hand. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { networkOf, RequestSlots, type RequestTicket, type SlotDecision } from '../src/net/request-slots.ts'

const LIMITS = { running: 4, waiting: 4, graceMs: 10_000, bytesPerSecond: 1_000 }

function ticket(peer: string, network = peer): RequestTicket {
  return { peer, network, startedAt: null, bytes: 0 }
}

function asks(slots: RequestSlots, tickets: readonly RequestTicket[], now = 0): SlotDecision[] {
  return tickets.flatMap((one) => slots.ask(one, now))
}

const told = (decisions: readonly SlotDecision[]): string[] =>
  decisions.map(({ kind, ticket: { peer } }) => `${kind} ${peer}`)

describe('request slots', () => {
  it('answer everybody at once while there is room, one peer as often as it asks', () => {
    const slots = new RequestSlots(LIMITS)
    assert.deepEqual(
      told(asks(slots, [ticket('a'), ticket('a'), ticket('a'), ticket('a')])),
      Array(4).fill('start a'),
    )
    assert.equal(slots.isContended, false)
  })

  it('two peers that hold all of them give one to a third at once', () => {
    const slots = new RequestSlots(LIMITS)
    asks(slots, [ticket('a'), ticket('a'), ticket('b'), ticket('b')])
    assert.deepEqual(told(slots.ask(ticket('honest'), 5)), ['end a', 'start honest'])
    // a, b, b, honest are running now: b gives one to a fourth, then nobody has more than its share.
    assert.deepEqual(told(slots.ask(ticket('other'), 6)), ['end b', 'start other'])
    assert.deepEqual(told(slots.ask(ticket('late'), 7)), [])
    assert.equal(slots.isContended, true)
  })

  it('many names at one address count as one neighbour', () => {
    const slots = new RequestSlots(LIMITS)
    asks(slots, [ticket('a1', 'net'), ticket('a2', 'net'), ticket('a3', 'net'), ticket('a4', 'net')])
    assert.deepEqual(told(slots.ask(ticket('honest'), 5)), ['end a1', 'start honest'])
  })

  it('peers behind one address share it fairly', () => {
    const slots = new RequestSlots(LIMITS)
    asks(
      slots,
      Array.from({ length: 4 }, () => ticket('greedy', 'net')),
    )
    assert.deepEqual(told(slots.ask(ticket('neighbour', 'net'), 5)), ['end greedy', 'start neighbour'])
  })

  it('while others wait, whoever is slower than the least pace goes, the slowest first; a quick one never', () => {
    const slots = new RequestSlots(LIMITS)
    const [quick, slow, slower, idle] = ['quick', 'slow', 'slower', 'idle'].map((peer) => ticket(peer))
    assert.ok(quick && slow && slower && idle)
    asks(slots, [quick, slow, slower, idle])
    asks(slots, [ticket('w1'), ticket('w2'), ticket('w3'), ticket('w4')])
    assert.deepEqual(slots.look(10_000), [], 'the grace is not over')
    quick.bytes = 20_000
    slow.bytes = 5_000
    slower.bytes = 1_000
    // At 16 s: idle is 6 s behind, slower 5 s, slow 1 s; quick may take 30 s for its bytes.
    assert.deepEqual(told(slots.look(16_000)), [
      'end idle',
      'start w1',
      'end slower',
      'start w2',
      'end slow',
      'start w3',
    ])
    assert.deepEqual(slots.look(25_000), [])
  })

  it('a slot that becomes free goes to the neighbour with fewest running, of equals to the first that came', () => {
    const slots = new RequestSlots(LIMITS)
    const first = ticket('a')
    asks(slots, [first, ticket('b'), ticket('c'), ticket('d')])
    asks(slots, [ticket('b'), ticket('e'), ticket('f')], 1)
    assert.deepEqual(told(slots.done(first, 2)), ['start e'])
  })

  it('of too many that wait, those of the greediest neighbour are refused', () => {
    const slots = new RequestSlots(LIMITS)
    asks(slots, [ticket('a'), ticket('b'), ticket('c'), ticket('d')])
    asks(slots, [ticket('a'), ticket('a'), ticket('a'), ticket('a')])
    assert.deepEqual(told(slots.ask(ticket('honest'), 1)), ['end a'])
    assert.deepEqual(told(slots.ask(ticket('a'), 1)), ['end a'])
  })

  it('one that gives up while it waits is forgotten, and an ended one ends twice without harm', () => {
    const slots = new RequestSlots(LIMITS)
    const [running, waiting] = [ticket('a'), ticket('b')]
    asks(slots, [running, ticket('c'), ticket('d'), ticket('e'), waiting])
    assert.deepEqual(slots.done(waiting, 1), [])
    assert.equal(slots.isContended, false)
    assert.deepEqual(slots.done(running, 2), [])
    assert.deepEqual(slots.done(running, 3), [])
    assert.deepEqual(told(slots.ask(ticket('f'), 4)), ['start f'])
  })
})

describe('networkOf', () => {
  it('is the IPv4 address, the /64 of IPv6, or the relay', () => {
    assert.equal(networkOf('/ip4/192.0.2.7/tcp/4001'), '192.0.2.7')
    assert.equal(networkOf('/ip6/2001:db8:1:2:3:4:5:6/tcp/1'), '2001:db8:1:2::/64')
    assert.equal(networkOf('/ip6/2001:0DB8:1:2::9/tcp/1'), '2001:db8:1:2::/64')
    assert.equal(networkOf('/ip6/::1/tcp/1'), '0:0:0:0::/64')
    assert.equal(networkOf('/ip4/192.0.2.7/tcp/1/p2p/r/p2p-circuit/p2p/x'), 'through 192.0.2.7')
  })
})
