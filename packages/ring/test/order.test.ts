/** The order of the ring: against brute force for up to eight points, and a ring over two continents. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { LEAST_GAIN, orderMembers, type PathTable } from '../src/order/order.ts'
import { PathMeter } from '../src/order/path-meter.ts'
import { MachineRig } from './machine-rig.ts'
import { Random } from './sim/random.ts'
import { MAX_BYTES_PER_MS, MAX_RTT_MS, MAX_ROW, Paths } from '../src/order/path-table.ts'
import { shortTour, tourLength, type Cost } from '../src/order/tour.ts'

/** Only times count. */
const TIMES = { moveBytes: 0 }

function random(seed: number): () => number {
  const numbers = new Random(seed)
  return () => numbers.next()
}

function randomCost(points: number, next: () => number): Cost {
  const matrix = Array.from({ length: points }, () => Array.from({ length: points }, () => next() * 200))
  return (a, b) => matrix[Math.min(a, b)]?.[Math.max(a, b)] ?? 0
}

function* permutations(items: readonly number[]): Generator<number[]> {
  if (items.length <= 1) yield [...items]
  for (const [k, item] of items.entries()) {
    for (const rest of permutations([...items.slice(0, k), ...items.slice(k + 1)])) yield [item, ...rest]
  }
}

/** Every closed tour begins somewhere: the first point stays. */
function bruteForce(points: number, cost: Cost): number {
  let best = Infinity
  const rest = Array.from({ length: points - 1 }, (_, k) => k + 1)
  for (const order of permutations(rest)) best = Math.min(best, tourLength([0, ...order], cost))
  return best
}

/** Members with an a in their name on one continent, those with a b on the other: 10 ms inside, 140 ms across, measured by both ends. */
function twoContinents(members: readonly string[], noise: () => number): Paths {
  const paths = new Paths()
  for (const a of members) {
    const row = members
      .filter((b) => b !== a)
      .map((b) => [b, (side(a) === side(b) ? 10 : 140) * (1 + 0.1 * noise()), null] as const)
    paths.note(a, row)
  }
  return paths
}

function side(member: string): string {
  return member.includes('a') ? 'a' : 'b'
}

function crossings(ring: readonly string[]): number {
  return ring.filter((member, k) => side(member) !== side(ring[(k + 1) % ring.length] ?? '')).length
}

describe('shortTour', () => {
  it('is as short as the best of all permutations up to eight points', () => {
    for (let seed = 1; seed <= 24; seed += 1) {
      const points = 4 + (seed % 5)
      const cost = randomCost(points, random(seed))
      const tour = shortTour(points, cost)
      assert.deepEqual(
        [...tour].sort((a, b) => a - b),
        Array.from({ length: points }, (_, k) => k),
      )
      const difference = Math.abs(tourLength(tour, cost) - bruteForce(points, cost))
      assert.ok(difference < 1e-9, `seed ${seed}, ${points} points`)
    }
  })

  it('finds the circle again on which 64 points lie', () => {
    const place = Array.from({ length: 64 }, (_, k) => (k * 37) % 64)
    const angle = (k: number): number => (2 * Math.PI * (place[k] ?? 0)) / 64
    const cost: Cost = (a, b) => 2 * Math.abs(Math.sin((angle(a) - angle(b)) / 2))
    // The regular 64-gon: 64 sides of 2 sin(pi / 64).
    const circle = 64 * 2 * Math.sin(Math.PI / 64)
    assert.ok(tourLength(shortTour(64, cost), cost) < 1.0001 * circle)
  })

  it('is the same for the same costs', () => {
    const cost = randomCost(80, random(5))
    assert.deepEqual(shortTour(80, cost), shortTour(80, cost))
  })
})

describe('orderMembers', () => {
  const mixed = ['a1', 'b1', 'a2', 'b2', 'a3', 'b3', 'a4', 'b4']

  it('crosses the ocean twice where the order by name crosses it eight times', () => {
    assert.equal(crossings(mixed), 8)
    const { members, gain } = orderMembers(mixed, twoContinents(mixed, random(1)).table, TIMES)
    assert.deepEqual([...members].sort(), [...mixed].sort())
    assert.equal(crossings(members), 2)
    // 8 crossings of 140 ms against 2 of them and 6 steps of 10 ms, give or take the noise.
    assert.ok(Math.abs(gain - (1 - (2 * 140 + 6 * 10) / (8 * 140))) < 0.05)
  })

  it('crosses it twice with thirty members as well', () => {
    const many = Array.from({ length: 30 }, (_, k) => `${k % 2 === 0 ? 'a' : 'b'}${k}`)
    assert.equal(crossings(orderMembers(many, twoContinents(many, random(2)).table, TIMES).members), 2)
  })

  it('leaves a good order as it is when the measurements wander', () => {
    const next = random(3)
    const good = orderMembers(mixed, twoContinents(mixed, next).table, TIMES).members
    for (let k = 0; k < 20; k += 1) {
      assert.equal(orderMembers(good, twoContinents(good, next).table, TIMES).members, good)
    }
    assert.ok(LEAST_GAIN > 0.1)
  })

  it('keeps the order while less than half of the pairs are measured', () => {
    const paths = new Paths()
    paths.note('a1', [
      ['b1', 140, null],
      ['a2', 10, null],
    ])
    assert.equal(orderMembers(mixed, paths.table, TIMES).members, mixed)
    assert.equal(orderMembers(mixed, new Paths().table, TIMES).members, mixed)
  })

  it('lets a peer that lies worsen the order, never lose a member', () => {
    const paths = twoContinents(mixed, random(4))
    // b4 claims to be next door to everybody: the honest ends of those paths say otherwise.
    paths.note(
      'b4',
      mixed.filter((peer) => peer !== 'b4').map((peer) => [peer, 0, null] as const),
    )
    assert.equal(crossings(orderMembers(mixed, paths.table, TIMES).members), 2)
    // It claims to be far from all: it stands wherever it does least harm.
    paths.note(
      'b4',
      mixed.filter((peer) => peer !== 'b4').map((peer) => [peer, Infinity, null] as const),
    )
    const { members } = orderMembers(mixed, paths.table, TIMES)
    assert.deepEqual([...members].sort(), [...mixed].sort())
    assert.equal(crossings(members.filter((peer) => peer !== 'b4')), 2)
  })
})

describe('the table of paths', () => {
  it('is bounded, clamps what makes no sense, and notes only what is new', () => {
    const paths = new Paths()
    const row = Array.from(
      { length: 1_000 },
      (_, k) => [`p${k}`, k % 2 === 0 ? -5 : 1e9, k % 2 === 0 ? -5 : 1e12] as const,
    )
    assert.ok(paths.note('a', row))
    assert.equal(paths.table.get('a')?.size, MAX_ROW)
    assert.deepEqual(paths.table.get('a')?.get('p0'), { ms: 0, bytesPerMs: 1 })
    assert.deepEqual(paths.table.get('a')?.get('p1'), { ms: MAX_RTT_MS, bytesPerMs: MAX_BYTES_PER_MS })
    assert.ok(paths.note('b', [['a', 100, null]]))
    assert.ok(!paths.note('b', [['a', 110, null]]))
    assert.ok(paths.note('b', [['a', 150, null]]))
    for (let k = 0; k < 1_000; k += 1) paths.note(`x${k}`, [])
    assert.ok(paths.table.size <= 256)
  })

  it('keeps the rows of members when strangers without number tell theirs', () => {
    const paths = new Paths((peer) => peer === 'member')
    paths.note('member', [['a', 1, null]])
    paths.note('first stranger', [['a', 1, null]])
    for (let i = 0; i < 1000; i++) paths.note(`stranger ${i}`, [['a', 1, null]])
    assert.equal(paths.table.size, 256)
    assert.ok(paths.table.has('member') && !paths.table.has('first stranger'))
  })
})

describe('the path meter', () => {
  it('measures whoever is there, tells a row once, and passes on what is new', async () => {
    const told: [from: string, to: string, row: string][] = []
    const tables = new Map<string, PathTable>()
    const meters = new Map<string, PathMeter>()
    const ids = ['x', 'y', 'z']
    for (const self of ids) {
      const meter: PathMeter = new PathMeter({
        isMember: () => false,
        self,
        peers: () => ids.filter((id) => id !== self),
        measure: async (peer) => (peer === 'z' || self === 'z' ? 100 : 5),
        tell: (to, message) => {
          told.push([self, to, JSON.stringify(message.row)])
          meters.get(to)?.onRow(self, message.row)
        },
        onChanged: (paths) => void tables.set(self, paths),
      })
      meters.set(self, meter)
    }
    for (let turn = 0; turn < 3; turn += 1) {
      for (const meter of meters.values()) meter.look()
      await new Promise(setImmediate)
    }
    // Three members told two others each, once, although they looked three times.
    assert.equal(told.length, 6)
    for (const id of ids) {
      const table = tables.get(id)
      assert.equal(table?.get('x')?.get('y')?.ms, 5)
      assert.equal(table?.get('y')?.get('z')?.ms, 100)
      assert.equal(table?.get('z')?.get('x')?.ms, 100)
    }
  })
})

describe('a view', () => {
  // By name, as genesis orders them, every step of the ring is a crossing.
  const ids = ['0a', '1b', '2a', '3b', '4a', '5b']

  /** Nodes that have agreed on a first view, measured, and done some rounds, look again. */
  function afterRounds(rounds: number): { order: readonly string[]; epoch: number; same: boolean } {
    const rig = new MachineRig(ids)
    const paths = twoContinents(ids, random(7)).table
    for (const id of ids) {
      rig.post(id, { on: 'paths', paths })
      rig.apply(id, { round: rounds, hash: '07' })
    }
    for (let k = 0; k < 40; k += 1) rig.pass(50)
    const views = ids.map((id) => rig.durable(id).view)
    const order = (views[0]?.members ?? []).map(({ peer }) => peer)
    const same = views.every((view) => JSON.stringify(view) === JSON.stringify(views[0]))
    return { order, epoch: views[0]?.epoch ?? 0, same }
  }

  it('takes the measured order when the time has come, and the same on all members', () => {
    const { order, epoch, same } = afterRounds(8)
    assert.ok(same)
    assert.equal(epoch, 2)
    assert.equal(crossings(order), 2)
  })

  it('is not changed for its order alone before it has done some rounds', () => {
    const { epoch, same } = afterRounds(7)
    assert.ok(same)
    assert.equal(epoch, 1)
  })
})
