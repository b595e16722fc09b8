import assert from 'node:assert/strict'
import { it } from 'node:test'
import { adviceFor, mappingAdvice } from '../src/engine/mapping-limit.ts'

it('a process near the limit of mappings is told which one to raise, any other nothing', async () => {
  assert.match(adviceFor(65_500, 65_530), /65500 memory mappings.*sysctl -w vm\.max_map_count=262120/)
  assert.equal(adviceFor(600, 65_530), '')
  assert.equal(adviceFor(600, Number('not a number')), '')
  assert.equal(await mappingAdvice(), '')
})
