/** Every decoder of peers' bytes on wrong inputs; `npm run fuzz` runs millions of cases and replays one. */
import { describe, it } from 'node:test'
import { caseRandom } from './fuzz/run.ts'
import { TARGETS } from './fuzz/targets.ts'

/** Cheap cases per target; a costly one gets fewer. */
const CASES = 1500

describe('wrong bytes from a peer only ever give a named refusal', () => {
  for (const target of TARGETS) {
    const cases = Math.ceil(CASES / target.cost)
    it(`${target.name} (${cases} cases)`, async () => {
      for (let seed = 1; seed <= cases; seed++) {
        try {
          await target.run(caseRandom(seed))
        } catch (cause) {
          const replay = `npm run fuzz -- --target "${target.name}" --seed ${seed}`
          throw new Error(`case ${seed}: ${String(cause)}\n${replay}`, { cause })
        }
      }
    })
  }
})
