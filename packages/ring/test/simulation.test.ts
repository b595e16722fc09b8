/** The real view machine under seeded faults. SIM_SEED=n replays one run; SIM_SEEDS=n sets how many are run. */
import { describe, it } from 'node:test'
import { runScenario } from './sim/scenario.ts'

const only = process.env.SIM_SEED
const count = Number(process.env.SIM_SEEDS ?? 60)

describe('view protocol under simulation', () => {
  const seeds = only === undefined ? Array.from({ length: count }, (_, i) => i + 1) : [Number(only)]
  it(`never commits a round twice and always recovers (${seeds.length} seeds from ${seeds[0]})`, () => {
    const failures: string[] = []
    for (const seed of seeds) {
      try {
        runScenario(seed)
      } catch (thrown) {
        failures.push(thrown instanceof Error ? thrown.message : String(thrown))
        if (failures.length >= 5) break
      }
    }
    if (failures.length > 0) throw new Error(`replay with SIM_SEED=<seed>\n${failures.join('\n')}`)
  })
})
