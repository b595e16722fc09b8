/** Two members that cannot hear each other while all others hear both: one goes, once, and the rest goes on. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { PEACEFUL, World } from './sim/world.ts'

const PEER_TIMEOUT_MS = 2000
/** To notice the silence, to agree on who goes, and for two rounds: a second turn of leaving somebody out does not fit in. */
const GOES_ON_MS = 3 * PEER_TIMEOUT_MS
const SEEDS = 25
const STEP_MS = 10

function until(world: World, condition: () => boolean, mostMs: number): boolean {
  const end = world.clock.now + mostMs
  while (!condition() && world.clock.now < end) world.clock.runUntil(world.clock.now + STEP_MS)
  return condition()
}

describe('a pair that is cut, silently', () => {
  for (const nodes of [3, 4, 5]) {
    it(`does not hold up the other members of ${nodes}`, () => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        const world = new World({
          ...PEACEFUL,
          seed,
          nodes,
          minMembers: Math.floor(nodes / 2) + 1,
          maxMembers: nodes,
          peerTimeoutMs: PEER_TIMEOUT_MS,
          checkedMessages: 0,
          rounds: true,
          signing: 'mac',
        })
        const ids = [...world.nodes.keys()]
        const round = (id: string): number => world.node(id).machine?.state.committed?.round ?? 0
        for (const id of ids) world.start(id)
        assert.ok(
          until(world, () => ids.every((id) => round(id) >= 3), 60_000),
          `seed ${seed}: no ring`,
        )
        const pair = [ids[seed % nodes], ids[(seed + 1 + (seed % (nodes - 1))) % nodes]]
        const others = ids.filter((id) => !pair.includes(id))
        const before = Math.max(...ids.map(round))
        world.network.cut(pair[0], pair[1], true)
        assert.ok(
          until(world, () => others.every((id) => round(id) >= before + 2), GOES_ON_MS),
          `seed ${seed}: ${pair.join(' and ')} cut`,
        )
      }
    })
  }
})
