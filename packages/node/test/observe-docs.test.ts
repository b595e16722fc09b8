/** What is published about the observatory agrees with the code: metrics, JSON schema, dashboards. */
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { METRIC_LIST } from '../src/observe/metrics-catalogue.ts'
import { Metrics } from '../src/observe/metrics.ts'
import { statusSchema } from '../src/observe/status-schema.ts'
import { everyEvent, fakePeerId, statusDocument } from './observe-fixtures.ts'
import { observeDocs } from './write-observe-docs.ts'

const ROOT = new URL('../../../', import.meta.url)

describe('published documents', () => {
  it('are what the code generates now (run packages/node/test/write-observe-docs.ts)', async () => {
    for (const [name, text] of Object.entries(await observeDocs())) {
      assert.equal(await readFile(new URL(`docs/${name}`, ROOT), 'utf8'), text, `docs/${name} is out of date`)
    }
  })

  it('hold a JSON schema that accepts status documents and refuses others', async () => {
    const ajv = new Ajv2020({ strict: true, allErrors: true })
    addFormats.default(ajv)
    const schema = JSON.parse(await readFile(new URL('docs/status.schema.json', ROOT), 'utf8')) as object
    const accepts = ajv.compile(schema)
    const good = [
      statusDocument(),
      statusDocument({ engine: null, model: null, dataset_size: null, last_step: null, last_round: null }),
      statusDocument({ last_error: { time: '2026-11-20T08:15:00Z', code: 'PEER_LOST', message: 'gone' } }),
    ]
    for (const document of good) {
      assert.ok(accepts(document), ajv.errorsText(accepts.errors))
      assert.ok(statusSchema.safeParse(document).success)
    }
    const withoutStep: Record<string, unknown> = { ...statusDocument() }
    delete withoutStep['step']
    const bad = [
      withoutStep,
      { ...statusDocument(), schema: 2 },
      { ...statusDocument(), state: 'sleeping' },
      { ...statusDocument(), round: -1 },
    ]
    for (const document of bad) assert.ok(!accepts(document))
  })
})

describe('metrics', () => {
  it('are named gym_<package>_<noun>_<unit>, counters ending in _total and nothing else', () => {
    for (const { name, type, help } of METRIC_LIST) {
      assert.match(name, /^gym_(node|gspo|ring)(_[a-z0-9]+)+$/)
      assert.equal(name.endsWith('_total'), type === 'counter', name)
      assert.match(help, /\.$/, `${name} needs a help text that is a sentence`)
    }
    assert.equal(new Set(METRIC_LIST.map(({ name }) => name)).size, METRIC_LIST.length)
  })

  it('never carry a peer id, whatever happened', async () => {
    const metrics = new Metrics()
    for (const event of everyEvent()) metrics.observe(event)
    const text = await metrics.render(statusDocument())
    for (let i = 0; i < 3; i++) assert.ok(!text.includes(fakePeerId(i)))
  })

  it('are all exported, and only they besides the process metrics', async () => {
    const metrics = new Metrics()
    for (const event of everyEvent()) metrics.observe(event)
    const text = await metrics.render(statusDocument())
    const exported = [...text.matchAll(/^# TYPE (gym_\w+) (\w+)$/gm)].map(
      ([, name, type]) => `${name} ${type}`,
    )
    assert.deepEqual(exported.sort(), METRIC_LIST.map(({ name, type }) => `${name} ${type}`).sort())
  })

  it('count what events say and show what the status says', async () => {
    const metrics = new Metrics()
    for (const event of everyEvent()) metrics.observe(event)
    for (const event of everyEvent()) metrics.observe(event)
    await metrics.render(statusDocument())
    const lines = (await metrics.render(statusDocument({ state: 'paused' }))).split('\n')
    const expected = [
      'gym_gspo_steps_total 2',
      'gym_gspo_generated_tokens_total 8000',
      'gym_ring_rounds_total 2',
      'gym_ring_round_duration_seconds_bucket{le="0.5"} 2',
      'gym_ring_round_duration_seconds_bucket{le="0.25"} 0',
      'gym_node_deltas_total{verified="true"} 2',
      'gym_node_delta_bytes_total 81920',
      'gym_node_errors_total{code="PEER_LOST"} 2',
      'gym_node_state_info{state="paused"} 1',
      'gym_node_state_info{state="training"} 0',
      'gym_ring_members_count{state="alive"} 2',
      'gym_ring_members_count{state="self"} 1',
      'gym_ring_sent_bytes_total 1741600000',
    ]
    for (const line of expected) {
      assert.ok(lines.includes(line), `${line} is missing`)
    }
    // 2026-11-20T08:15:00Z in seconds since 1970, by `date -u -d 2026-11-20T08:15:00Z +%s`.
    assert.ok(lines.includes('gym_node_start_time_seconds 1795162500'))
  })

  it('bound the number of error codes that become labels', async () => {
    const metrics = new Metrics()
    for (let i = 0; i < 200; i++) metrics.observe({ type: 'error', code: `CODE_${i}`, message: '' })
    metrics.observe({ type: 'error', code: 'not a code"}\n', message: '' })
    const text = await metrics.render(statusDocument())
    assert.equal([...text.matchAll(/^gym_node_errors_total\{/gm)].length, 65)
    assert.match(text, /^gym_node_errors_total\{code="OTHER"\} 137$/m)
  })
})

describe('Grafana dashboards and alert rules', () => {
  it('ask only for metrics and labels that the code exports', async () => {
    const known = new Map(
      METRIC_LIST.flatMap((spec) => {
        const names =
          spec.type === 'histogram'
            ? ['_bucket', '_sum', '_count'].map((end) => spec.name + end)
            : [spec.name]
        return names.map((name): [string, readonly string[]] => [name, spec.labels])
      }),
    )
    const files = [
      ...(await list('docker/grafana/dashboards/')).filter((name) => name.endsWith('.json')),
      ...(await list('docker/prometheus/')).filter((name) => name.endsWith('rules.yml')),
    ]
    assert.ok(files.length >= 2)
    for (const file of files) {
      const text = await readFile(new URL(file, ROOT), 'utf8')
      const names = [...text.matchAll(/\bgym_[a-z0-9_]+\b/g)].map(([name]) => name)
      assert.ok(names.length > 5, `${file} shows nothing of the daemon`)
      for (const name of names) assert.ok(known.has(name), `${file} asks for ${name}, which nothing exports`)
    }
  })
})

async function list(folder: string): Promise<string[]> {
  return (await readdir(new URL(folder, ROOT))).map((name) => folder + name)
}
