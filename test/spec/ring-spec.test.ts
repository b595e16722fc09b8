/** The checked specification: its small configurations hold, and its mutations show that it can fail. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { check, CONFIGURATIONS, missingTools } from '../../spec/check.ts'

const missing = await missingTools()

describe('the specification of membership and round commit', { skip: missing ?? false }, () => {
  for (const configuration of CONFIGURATIONS.filter(({ quick }) => quick)) {
    const claim = configuration.expect === 'holds' ? 'holds for' : 'is violated by'
    it(`${claim}: ${configuration.name}`, async () => {
      const found = await check(configuration)
      const story = found.story.join('\n')
      if (configuration.expect === 'holds') {
        assert.equal(found.violation, null, story)
        assert.equal(found.complete, true, `the search ended early after ${found.states} states`)
      } else {
        assert.match(found.violation ?? 'nothing found', /^assertion violated/)
        assert.match(story, /node \d/)
      }
    })
  }
})
