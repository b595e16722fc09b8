/**
 * A real Prometheus with the rules of docker/prometheus on two real daemons: both are scraped, every alert's expression
 * evaluates, and every query of the Grafana dashboards answers with numbers. Skipped where Prometheus is not installed.
 * Takes half a minute of two cores, so it is no part of `npm test`: npm run test:prometheus
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parse, stringify } from 'yaml'
import { z } from 'zod'
import { demoFlags, settings, temporaryFolder, TestDaemon } from './daemon-harness.ts'

const DOCKER = fileURLToPath(new URL('../../docker/', import.meta.url))
const PROMETHEUS = '/usr/bin/prometheus'
const DEADLINE_MS = 120_000

/** What an answer of Prometheus' HTTP API holds. */
const answerSchema = z.object({
  status: z.string(),
  error: z.string().optional(),
  data: z.unknown(),
})
const resultSchema = z.object({ result: z.array(z.unknown()) })
const rulesSchema = z.object({
  groups: z.array(
    z.object({
      rules: z.array(
        z.object({
          name: z.string(),
          health: z.string(),
          lastError: z.string().optional(),
          state: z.string(),
        }),
      ),
    }),
  ),
})
const targetsSchema = z.object({
  activeTargets: z.array(z.object({ health: z.string(), lastError: z.string() })),
})
const dashboardSchema = z.object({
  panels: z.array(
    z.object({ title: z.string(), targets: z.array(z.object({ expr: z.string() })).default([]) }),
  ),
  templating: z.object({ list: z.array(z.object({ query: z.object({ query: z.string() }) })) }),
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address !== null ? address.port : 0
}

/** docker's Prometheus on these targets, looking every second; its configuration and rules are otherwise the shipped ones. */
async function startPrometheus(folder: string, targets: readonly string[]) {
  const config = parse(await readFile(join(DOCKER, 'prometheus/prometheus.yml'), 'utf8')) as {
    global: object
    scrape_configs: { static_configs: { targets: readonly string[] }[] }[]
  }
  config.global = { ...config.global, scrape_interval: '1s', evaluation_interval: '1s' }
  for (const { static_configs: configs } of config.scrape_configs)
    for (const one of configs) one.targets = targets
  await writeFile(join(folder, 'prometheus.yml'), stringify(config))
  await copyFile(join(DOCKER, 'prometheus/rules.yml'), join(folder, 'rules.yml'))
  const port = await freePort()
  const child = spawn(
    PROMETHEUS,
    [
      '--config.file=prometheus.yml',
      '--storage.tsdb.path=data',
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=warn',
    ],
    { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] },
  )
  const ended = once(child, 'exit')
  return {
    url: `http://127.0.0.1:${port}`,
    async stop(): Promise<void> {
      child.kill('SIGTERM')
      await ended
    },
  }
}

/** What the API answers at `path`; an error of Prometheus is thrown with the query that it is about. */
async function ask(url: string, path: string): Promise<unknown> {
  const response = await fetch(url + path)
  const { status, error, data } = answerSchema.parse(await response.json())
  assert.equal(status, 'success', `${decodeURIComponent(path)}: ${error}`)
  return data
}

async function query(url: string, expression: string): Promise<unknown[]> {
  return resultSchema.parse(await ask(url, `/api/v1/query?query=${encodeURIComponent(expression)}`)).result
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + DEADLINE_MS
  for (;;) {
    if (await holds().catch(() => false)) return // a server that is just starting refuses connections
    assert.ok(performance.now() < end, `not within ${DEADLINE_MS / 1000} s: ${what}`)
    await sleep(250)
  }
}

it(
  'Prometheus scrapes daemons, evaluates the alerts and answers every query of the dashboards',
  { skip: existsSync(PROMETHEUS) ? false : 'no Prometheus here (apt-get install prometheus)' },
  async (t) => {
    const folder = await temporaryFolder(t)
    await using closing = new AsyncDisposableStack()
    const daemons: TestDaemon[] = []
    let bootstrap: readonly string[] = []
    for (const seed of [1, 2]) {
      const flags = [
        ...demoFlags(seed),
        ...settings({ 'ring.min_members': 2, 'ring.bootstrap': JSON.stringify(bootstrap) }),
      ]
      const daemon = TestDaemon.start(t, join(folder, `state-${seed}`), flags)
      closing.defer(async () => void (await daemon.stop()))
      daemons.push(daemon)
      bootstrap = (await daemon.whereabouts()).addresses
    }
    const targets = await Promise.all(
      daemons.map(async (daemon) => new URL((await daemon.whereabouts()).http).host),
    )
    await Promise.all(daemons.map((daemon) => daemon.waitForRound(2)))
    const home = join(folder, 'prometheus')
    await mkdir(home)
    const prometheus = await startPrometheus(home, targets)
    closing.defer(() => prometheus.stop())
    const { url } = prometheus

    await until('both daemons are up', async () => {
      const { activeTargets } = targetsSchema.parse(await ask(url, '/api/v1/targets'))
      return activeTargets.length === 2 && activeTargets.every(({ health }) => health === 'up')
    })
    // Rates need two looks with a round between them.
    await until('rounds are counted', async () => {
      const counted = await query(url, 'rate(gym_ring_rounds_total[1m]) > 0')
      return counted.length === 2
    })

    await until('every alert has been evaluated', async () => {
      const { groups } = rulesSchema.parse(await ask(url, '/api/v1/rules'))
      return groups.flatMap(({ rules }) => rules).every(({ health }) => health !== 'unknown')
    })
    const { groups } = rulesSchema.parse(await ask(url, '/api/v1/rules'))
    const rules = groups.flatMap((group) => group.rules)
    assert.ok(rules.length >= 10, `${rules.length} alerts`)
    for (const { name, health, lastError, state } of rules) {
      assert.equal(health, 'ok', `${name}: ${lastError}`)
      assert.notEqual(state, 'firing', `${name} fires for two healthy daemons`)
    }

    const folderOfDashboards = join(DOCKER, 'grafana/dashboards')
    let answered = 0
    for (const file of await readdir(folderOfDashboards)) {
      const text = await readFile(join(folderOfDashboards, file), 'utf8')
      const { panels, templating } = dashboardSchema.parse(JSON.parse(text))
      for (const { query: variable } of templating.list) {
        const metric = /^label_values\((\w+), instance\)$/.exec(variable.query)?.[1]
        assert.ok(metric !== undefined, `${file}: variable ${variable.query}`)
        assert.equal((await query(url, metric)).length, 2, `${file}: ${metric}`)
      }
      for (const { title, targets: queries } of panels) {
        for (const { expr } of queries) {
          const found = await query(url, expr.replaceAll('$instance', '.*'))
          assert.ok(found.length > 0, `${file}: the panel "${title}" shows nothing for ${expr}`)
          answered += 1
        }
      }
    }
    t.diagnostic(`${rules.length} alerts evaluated, ${answered} queries of dashboards answered`)
  },
)
