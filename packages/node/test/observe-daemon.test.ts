/** A real daemon through its HTTP face: pause, resume and leave, and what it says about itself while it trains. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { it } from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import {
  demoFlags,
  isCommit,
  settings,
  temporaryFolder,
  TestDaemon,
} from '../../../test/e2e/daemon-harness.ts'
import { HISTORY_LIMITS } from '../src/observe/defaults.ts'
import { HistoryStore } from '../src/observe/history-store.ts'
import type { DaemonStatus } from '../src/status.ts'
import { ask, fakePeerId } from './observe-fixtures.ts'

const TOKEN = 'a-token-of-the-operator'
const SCHEMA = new URL('../../../docs/status.schema.json', import.meta.url)

it('trains, pauses, resumes and leaves as its operator asks, and remembers all of it', async (t) => {
  const folder = await temporaryFolder(t)
  const stateDir = join(folder, 'state')
  await writeFile(join(folder, 'token'), `${TOKEN}\n`)
  const collector = await startCollector(t)
  const flags = settings({
    'ring.min_members': 1,
    'http.token_file': join(folder, 'token'),
    'tracing.endpoint': collector.endpoint,
  })
  const daemon = TestDaemon.start(t, stateDir, [...demoFlags(11), ...flags])
  const { http } = await daemon.whereabouts()
  assert.equal((await ask(`${http}healthz`)).code, 200)
  await daemon.waitForRound(2)
  assert.equal((await ask(`${http}readyz`)).code, 200)

  const ajv = new Ajv2020({ strict: true, allErrors: true })
  addFormats.default(ajv)
  const accepts = ajv.compile(JSON.parse(await readFile(SCHEMA, 'utf8')) as object)
  const status = JSON.parse((await ask(`${http}status.json`)).text) as DaemonStatus
  assert.ok(accepts(status), ajv.errorsText(accepts.errors))
  assert.ok(status.last_step !== null && status.last_round !== null && status.model !== null)

  const metrics = (await ask(`${http}metrics`)).text
  const value = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(metrics)?.[1])
  assert.ok(value('gym_ring_rounds_total') >= 2)
  assert.ok(value('gym_gspo_steps_total') >= 4, 'two steps a round')
  assert.ok(value('gym_gspo_generated_tokens_total') > 0)
  assert.ok(value('gym_node_delta_bytes_total') > 0)
  assert.ok(!metrics.includes(status.peer_id) && !metrics.includes(fakePeerId(0)))

  const post = async (action: string): Promise<number> =>
    (await ask(`${http}api/${action}`, { method: 'POST', headers: { authorization: `Bearer ${TOKEN}` } }))
      .code
  assert.equal((await ask(`${http}api/pause`, { method: 'POST' })).code, 401)
  const beforePause = daemon.lines.length
  assert.equal(await post('pause'), 200)
  await daemon.waitFor('the pause', ({ state }) => state === 'paused', beforePause)
  const paused = JSON.parse((await ask(`${http}status.json`)).text) as DaemonStatus
  assert.equal(paused.state, 'paused')
  assert.equal((await ask(`${http}readyz`)).code, 200, 'paused on purpose is no fault')
  const afterPause = daemon.lines.length
  assert.equal(await post('resume'), 200)
  await daemon.waitFor('a commit', isCommit, afterPause)
  assert.equal(await post('leave'), 200)
  assert.deepEqual(await daemon.ended, { code: 0, signal: null }, daemon.stderr)

  const spans = collector.spans()
  const named = (name: string): OtlpSpan[] => spans.filter((span) => span.name === name)
  assert.ok(named('round').length >= 2 && named('view change').length >= 1, 'spans reached the collector')
  const roundIds = new Set(named('round').map(({ spanId }) => spanId))
  for (const name of ['step', 'write delta', 'all-reduce', 'commit'])
    assert.ok(
      named(name).length >= 2 && named(name).every(({ parentSpanId }) => roundIds.has(parentSpanId ?? '')),
      `${name} is under a round`,
    )
  for (const { name, startTimeUnixNano, endTimeUnixNano } of spans)
    assert.ok(BigInt(endTimeUnixNano) >= BigInt(startTimeUnixNano), name)

  const store = HistoryStore.open(join(stateDir, 'history.sqlite'), status.job, HISTORY_LIMITS, () => {
    assert.fail('the history of a daemon that ended well is whole')
  })
  const committed = Math.max(...daemon.adapters().keys())
  const [steps, rounds] = store.read({
    series: ['reward_mean', 'all_reduce_seconds'],
    points: 5000,
    from: null,
    to: null,
  })
  assert.equal(rounds?.x.at(-1), committed)
  assert.ok((steps?.x.length ?? 0) >= 2 * committed)
  assert.deepEqual(
    store.recent('delta', 1).map(({ event }) => event.type === 'delta' && event.verified),
    [true],
  )
  assert.ok(store.recent('rollout', 10).length > 0)
  const states = store.recent('state', 50).map(({ event }) => (event.type === 'state' ? event.state : null))
  assert.ok(states.includes('paused'))
  assert.ok(states.length < 12, `the phases of ${committed} rounds do not fill the log: ${states.join()}`)
  store.close()
})

interface OtlpSpan {
  readonly name: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
}

/** A collector that speaks OTLP/HTTP with JSON (opentelemetry-proto 1.x, `ExportTraceServiceRequest`). */
async function startCollector(t: {
  after: (fn: () => void) => void
}): Promise<{ endpoint: string; spans: () => OtlpSpan[] }> {
  const spans: OtlpSpan[] = []
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      assert.equal(request.headers['content-type'], 'application/json')
      const body = JSON.parse(Buffer.concat(parts).toString()) as {
        resourceSpans: { scopeSpans: { spans: OtlpSpan[] }[] }[]
      }
      spans.push(
        ...body.resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans)),
      )
      response.setHeader('content-type', 'application/json').end('{}')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return { endpoint: `http://127.0.0.1:${port}/v1/traces`, spans: () => spans }
}
