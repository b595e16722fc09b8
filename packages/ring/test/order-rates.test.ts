/** The order of the ring where rates count beside times: matrices worked out by hand, and brute force. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { orderMembers, type PathTable } from '../src/order/order.ts'
import { PathMeter } from '../src/order/path-meter.ts'
import { Paths } from '../src/order/path-table.ts'
import { Pace } from '../src/link/pace.ts'
import { Random } from './sim/random.ts'

const MIB = 1024 * 1024

/** Both ends of every pair claim what `path` says of it. */
function tableOf(
  members: readonly string[],
  path: (a: string, b: string) => readonly [ms: number, bytesPerMs: number | null],
): PathTable {
  const paths = new Paths()
  for (const a of members) {
    const others = members.filter((b) => b !== a)
    paths.note(
      a,
      others.map((b) => [b, ...(a < b ? path(a, b) : path(b, a))]),
    )
  }
  return paths.table
}

const isEdge = (ring: readonly string[], a: string, b: string): boolean => {
  const n = ring.length
  const [i, j] = [ring.indexOf(a), ring.indexOf(b)]
  return (i + 1) % n === j || (j + 1) % n === i
}

function* permutations(items: readonly string[]): Generator<string[]> {
  if (items.length <= 1) yield [...items]
  for (const [k, item] of items.entries()) {
    for (const rest of permutations(items.toSpliced(k, 1))) yield [item, ...rest]
  }
}

describe('an order by times and rates', () => {
  const four = ['a', 'b', 'c', 'd']
  // 10 ms everywhere; a-b takes 1,000 bytes a ms, the others 10,000.
  const slowPair = tableOf(four, (a, b) => [10, a === 'a' && b === 'b' ? 1_000 : 10_000])

  it('goes round a slow link when a move is long', () => {
    // A move of 10^6 bytes: a-b costs 5 + 1,000 but counts four medians of 105, 420; the others cost 105 each.
    const { members, gain } = orderMembers(four, slowPair, { moveBytes: 1_000_000 })
    assert.ok(!isEdge(members, 'a', 'b'), members.join())
    // 420 + 3 x 105 against 4 x 105.
    assert.ok(Math.abs(gain - (1 - 420 / 735)) < 1e-9, `${gain}`)
  })

  it('does not care about it when a move is short', () => {
    // 1,000 bytes: 6 against 5.1 ms, so a ring through a-b costs 21.3 against 20.4: a gain of 4 %.
    assert.equal(orderMembers(four, slowPair, { moveBytes: 1_000 }).members, four)
  })

  it('takes a longer way round the world when the short one is thin', () => {
    // Two sites, {a, b} and {c, d}: 2 ms inside, 40 ms across. Inside the first site the link is a modem's.
    const table = tableOf(four, (a, b) => {
      if (a === 'a' && b === 'b') return [2, 100]
      return a === 'c' && b === 'd' ? [2, 10_000] : [40, 10_000]
    })
    // Through a-b: 1 + 1000 there (at most four medians of 30, 120), 1 + 10 in the second site, 2 x (20 + 10): 191.
    // Without: four crossings of 30, 120.
    const { members } = orderMembers(four, table, { moveBytes: 100_000 })
    assert.ok(!isEdge(members, 'a', 'b'), members.join())
    // By times alone it crosses twice: a-b and c-d are neighbours.
    const { members: nearest } = orderMembers(['a', 'c', 'b', 'd'], table, { moveBytes: 0 })
    assert.ok(isEdge(nearest, 'a', 'b') && isEdge(nearest, 'c', 'd'), nearest.join())
  })

  it('counts a rate that nobody has measured as the usual one, and none at all as no matter', () => {
    const some = tableOf(four, (a, b) => [10, a === 'a' && b === 'b' ? 1_000 : a === 'a' ? 10_000 : null])
    // Known: 1,000 and twice 10,000; the median is 10,000, so the matrix is that of the first case.
    assert.ok(!isEdge(orderMembers(four, some, { moveBytes: 1_000_000 }).members, 'a', 'b'))
    const none = tableOf(four, () => [10, null])
    assert.equal(orderMembers(four, none, { moveBytes: 1_000_000 }).members, four)
  })

  it('believes the slower of the two ends', () => {
    const paths = new Paths()
    for (const a of four)
      paths.note(
        a,
        four.filter((b) => b !== a).map((b) => [b, 10, a === 'a' && b === 'b' ? 1_000 : 10_000] as const),
      )
    assert.ok(!isEdge(orderMembers(four, paths.table, { moveBytes: 1_000_000 }).members, 'a', 'b'))
  })

  it('is the cheapest of all rings up to seven members, the same whatever the order was before', () => {
    for (let seed = 1; seed <= 12; seed += 1) {
      const random = new Random(seed)
      const members = Array.from({ length: 4 + (seed % 4) }, (_, k) => `m${k}`)
      // Times and rates near enough to each other that no path is cut off at four medians.
      const drawn = new Map<string, readonly [number, number]>()
      for (const a of members)
        for (const b of members) drawn.set(`${a} ${b}`, [random.below(100) + 50, random.below(4_000) + 4_000])
      const path = (a: string, b: string): readonly [number, number] => drawn.get(`${a} ${b}`) ?? [0, 1]
      const cost = (ring: readonly string[]): number =>
        ring.reduce((sum, a, k) => {
          const b = ring[(k + 1) % ring.length] ?? ''
          const [ms, rate] = a < b ? path(a, b) : path(b, a)
          return sum + ms / 2 + 400_000 / rate
        }, 0)
      const table = tableOf(members, path)
      const [first = '', ...rest] = members
      const best = Math.min(...[...permutations(rest)].map((order) => cost([first, ...order])))
      for (const before of [members, members.toReversed()]) {
        const { members: after } = orderMembers(before, table, { moveBytes: 400_000, leastGain: 1e-9 })
        assert.ok(Math.abs(cost(after) - best) < 1e-6, `seed ${seed}: ${cost(after)}, best ${best}`)
      }
    }
  })

  it('stays as it is while rates wander by a tenth', () => {
    const random = new Random(3)
    const wander = (): PathTable =>
      tableOf(four, (a, b) => [10, (a === 'a' && b === 'b' ? 1_000 : 10_000) * random.between(0.9, 1.1)])
    const good = orderMembers(four, wander(), { moveBytes: 1_000_000 }).members
    for (let k = 0; k < 50; k += 1)
      assert.equal(orderMembers(good, wander(), { moveBytes: 1_000_000 }).members, good)
  })
})

describe('the pace of a link', () => {
  it('is the median of what came after the beginning of each large frame', () => {
    const pace = new Pace()
    // 1 MiB each, 64 KiB of it there at first; the rest takes 100, 200, 200, 400 and 800 ms.
    for (const ms of [400, 100, 200, 800, 200]) {
      pace.partial(0, MIB / 16)
      pace.partial(50, MIB / 2)
      pace.complete(ms, MIB)
    }
    assert.equal(pace.take(), (MIB - MIB / 16) / 200)
    assert.equal(pace.take(), null, 'begins anew')
  })

  it('is unknown from few frames, small ones, and those that were found complete', () => {
    const pace = new Pace()
    for (let k = 0; k < 10; k += 1) pace.complete(k, MIB)
    for (let k = 0; k < 10; k += 1) {
      pace.partial(k, 0)
      pace.complete(k + 1, 1_000)
    }
    for (let k = 0; k < 3; k += 1) {
      pace.partial(k, 0)
      pace.complete(k + 1, MIB)
    }
    assert.equal(pace.take(), null)
  })
})

describe('the path meter', () => {
  it('tells the highest rate of the last rounds beside the least time', async () => {
    const told: unknown[] = []
    const meter = new PathMeter({
      isMember: () => false,
      self: 'x',
      peers: () => ['y', 'z'],
      measure: async () => 20,
      tell: (_, message) => void told.push(message.row),
      onChanged: () => undefined,
    })
    meter.onRate('y', 500)
    meter.onRate('y', 900)
    meter.onRate('y', 700)
    meter.look()
    await new Promise(setImmediate)
    meter.look()
    assert.deepEqual(told[0], [
      ['y', 20, 900],
      ['z', 20, null],
    ])
  })
})
