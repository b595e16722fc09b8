/** The real view machine under seeded faults; `npm run sim` runs thousands of seeds and replays one. */
import { describe, it } from 'node:test'
import { runScenario } from './sim/scenario.ts'

/** A few everyday seeds; the script runs the rest. */
const SEEDS = 40

describe('view protocol under simulation', () => {
  it(`never commits a round twice and always recovers (${SEEDS} seeds)`, () => {
    const failures: string[] = []
    for (let seed = 1; seed <= SEEDS && failures.length < 5; seed++) {
      try {
        runScenario(seed)
      } catch (thrown) {
        failures.push(thrown instanceof Error ? thrown.message : String(thrown))
      }
    }
    if (failures.length > 0)
      throw new Error(`replay: npm run sim -- --seed <seed> --trace\n${failures.join('\n')}`)
  })
})
