/** The real view machine under seeded faults; `npm run sim` runs thousands of seeds and replays one. */
import { describe, it } from 'node:test'
import { runScenario, type ScenarioKind } from './sim/scenario.ts'

/** A few everyday seeds; the script runs the rest. */
const SEEDS = { faults: 40, hostile: 6 } as const

/** Throws with what failed, and how to see it again. */
function runSeeds(kind: ScenarioKind): void {
  const failures: string[] = []
  for (let seed = 1; seed <= SEEDS[kind] && failures.length < 5; seed++) {
    try {
      runScenario(seed, kind)
    } catch (thrown) {
      failures.push(thrown instanceof Error ? thrown.message : String(thrown))
    }
  }
  const option = kind === 'hostile' ? ' --hostile' : ''
  if (failures.length > 0)
    throw new Error(`replay: npm run sim -- --seed <seed>${option} --trace\n${failures.join('\n')}`)
}

describe('view protocol under simulation', () => {
  it(`never commits a round twice and always recovers (${SEEDS.faults} seeds)`, () => runSeeds('faults'))

  it(`takes no view over that no quorum voted for, whatever a member says (${SEEDS.hostile} seeds)`, () =>
    runSeeds('hostile'))
})
