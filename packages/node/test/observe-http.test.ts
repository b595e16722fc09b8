/** The HTTP face of the observatory over real sockets: who may read, who may act, and what is answered. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { createObservatory, type Observatory } from '../src/observe/index.ts'
import type { DaemonState } from '../src/status.ts'
import { ask, everyEvent, ListLogger, statusDocument } from './observe-fixtures.ts'

const TOKEN = 'correct-horse-battery-staple'

describe('the HTTP server of the observatory', () => {
  let stateDir = ''
  let observatory: Observatory
  let url = ''
  let state: DaemonState = 'training'
  let isStatusBroken = false
  const calls: string[] = []
  const logger = new ListLogger()

  before(async () => {
    stateDir = await mkdtemp(join(tmpdir(), 'gym-observe-'))
    observatory = createObservatory({
      stateDir,
      listen: { host: '127.0.0.1', port: 0 },
      token: TOKEN,
      status: () => {
        if (isStatusBroken) throw new Error('status is broken')
        return statusDocument({ state, seconds_since_progress: 300 })
      },
      controls: {
        pause: async () => {
          calls.push('pause')
          state = 'paused'
        },
        resume: async () => {
          calls.push('resume')
          throw Object.assign(new Error('not paused'), { code: 'NOT_PAUSED' })
        },
        leave: async () => {
          calls.push('leave')
        },
      },
      logger,
    })
    url = (await observatory.start())?.url ?? ''
    for (const event of everyEvent()) observatory.emit(event)
  })

  after(async () => {
    await observatory.stop()
    await rm(stateDir, { recursive: true })
  })

  it('answers /status.json with the document as the daemon gives it', async () => {
    const answer = await ask(`${url}status.json`)
    assert.equal(answer.code, 200)
    assert.deepEqual(
      JSON.parse(answer.text),
      JSON.parse(JSON.stringify(statusDocument({ state, seconds_since_progress: 300 }))),
    )
  })

  it('refuses a Host that a stranger could have pointed here', async () => {
    for (const host of [
      'evil.example',
      'evil.example:9464',
      'localhost.evil.example',

      'user@localhost',
      '127.0.0.1.evil.example',
    ]) {
      const answer = await ask(`${url}status.json`, { headers: { host } })
      assert.ok(answer.code === 421 || answer.code === 400, `${host} gave ${answer.code}`)
    }
  })

  it('accepts IP addresses and localhost as Host', async () => {
    for (const host of ['127.0.0.1:1', 'localhost', 'LOCALHOST:80', '[::1]:9464', '10.1.2.3']) {
      assert.equal((await ask(`${url}status.json`, { headers: { host } })).code, 200, host)
    }
  })

  it('gives no page of another origin a way in', async () => {
    const answer = await ask(`${url}status.json`, { headers: { origin: 'https://evil.example' } })
    assert.equal(answer.headers['access-control-allow-origin'], undefined)
    assert.equal((await ask(`${url}status.json`, { headers: { 'sec-fetch-site': 'cross-site' } })).code, 403)
    assert.equal(
      (await ask(url, { headers: { 'sec-fetch-site': 'cross-site' } })).code,
      200,
      'following a link to the page is fine',
    )
  })

  it('sends a policy that lets the page load nothing from elsewhere', async () => {
    const { headers } = await ask(url)
    assert.match(
      String(headers['content-security-policy']),
      /default-src 'none'; script-src 'self'; style-src 'self'/,
    )
    assert.equal(headers['x-content-type-options'], 'nosniff')
    assert.equal(headers['x-frame-options'], 'DENY')
    assert.equal(headers['referrer-policy'], 'no-referrer')
  })

  it('serves the page and its charts from memory, with validators', async () => {
    const page = await ask(url)
    assert.equal(page.headers['content-type'], 'text/html; charset=utf-8')
    const vendor = await ask(`${url}vendor/uplot.js`)
    assert.equal(vendor.headers['content-type'], 'text/javascript; charset=utf-8')
    const again = await ask(`${url}vendor/uplot.js`, {
      headers: { 'if-none-match': String(vendor.headers['etag']) },
    })
    assert.equal(again.code, 304)
    assert.equal(again.text, '')
  })

  it('never turns a path into a file', async () => {
    for (const path of [
      '..%2f..%2fpackage.json',
      '../package.json',
      'vendor/../../package.json',
      '%2e%2e/package.json',
    ]) {
      assert.equal((await ask(`${url}${path}`)).code, 404, path)
    }
  })

  it('says 404 for an unknown path and 405 with the right method for a known one', async () => {
    assert.equal((await ask(`${url}nothing`)).code, 404)
    const answer = await ask(`${url}api/pause`)
    assert.equal(answer.code, 405)
    assert.equal(answer.headers['allow'], 'POST')
  })

  it('acts only with the token, and tells an operator from a reader', async () => {
    const strangers: Record<string, string>[] = [
      {},
      { authorization: 'Bearer wrong' },
      { authorization: `Basic ${TOKEN}` },
      { authorization: TOKEN },
    ]
    for (const headers of strangers) {
      assert.equal((await ask(`${url}api/pause`, { method: 'POST', headers })).code, 401)
    }
    assert.deepEqual(calls, [])
    const headers = { authorization: `Bearer ${TOKEN}` }
    assert.deepEqual(JSON.parse((await ask(`${url}api/session`)).text), {
      has_controls: true,
      is_operator: false,
    })
    assert.deepEqual(JSON.parse((await ask(`${url}api/session`, { headers })).text), {
      has_controls: true,
      is_operator: true,
    })
    const done = await ask(`${url}api/pause`, { method: 'POST', headers })
    assert.deepEqual(JSON.parse(done.text), { ok: true, action: 'pause', state: 'paused' })
    assert.equal((await ask(`${url}api/leave`, { method: 'POST', headers })).code, 200)
    assert.deepEqual(calls, ['pause', 'leave'])
  })

  it('passes the code of a refused action on', async () => {
    const answer = await ask(`${url}api/resume`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}` },
    })
    assert.equal(answer.code, 409)
    assert.deepEqual(JSON.parse(answer.text), { error: { code: 'NOT_PAUSED', message: 'not paused' } })
  })

  it('is ready only while it takes part and gets on, and healthy until it failed', async () => {
    const expected: [DaemonState, number, number][] = [
      ['starting', 200, 503],
      ['waiting_for_peers', 200, 503],
      ['syncing', 200, 503],
      ['training', 200, 200],
      ['reducing', 200, 200],
      ['validating', 200, 200],
      ['paused', 200, 200],
      ['stopping', 200, 503],
      ['failed', 503, 503],
    ]
    for (const [value, healthy, ready] of expected) {
      state = value
      assert.equal((await ask(`${url}healthz`)).code, healthy, value)
      assert.equal((await ask(`${url}readyz`)).code, ready, value)
    }
    state = 'training'
  })

  it('gives charts, deltas, rollouts and the log out of history', async () => {
    const history = JSON.parse(
      (await ask(`${url}api/history?series=reward_mean,all_reduce_seconds&points=10`)).text,
    ) as {
      tables: { axis: string; x: number[]; series: Record<string, { mean: number[] }> }[]
    }
    assert.deepEqual(
      history.tables.map((table) => [table.axis, table.x]),
      [
        ['step', [1248]],
        ['round', [312]],
      ],
    )
    const log = JSON.parse((await ask(`${url}api/recent`)).text) as { events: { event: { type: string } }[] }
    assert.deepEqual(
      log.events.map(({ event }) => event.type),
      ['error', 'view', 'state'],
    )
    const deltas = JSON.parse((await ask(`${url}api/recent?type=delta&limit=5`)).text) as {
      events: { event: { file: string } }[]
    }
    assert.deepEqual(
      deltas.events.map(({ event }) => event.file),
      ['round-312.delta'],
    )
  })

  it('refuses queries that it does not understand, with what it would understand', async () => {
    for (const path of [
      'api/history?series=loss;drop',
      'api/history?points=0',
      'api/history?points=1e9',
      'api/history?from=-1',
      'api/recent?type=step',
      'api/recent?limit=x',
    ]) {
      const answer = await ask(url + path)
      assert.equal(answer.code, 400, path)
      assert.match(answer.text, /BAD_QUERY/)
    }
  })

  it('survives a broken status: 500 for the reader, counted and logged once', async () => {
    isStatusBroken = true
    assert.equal((await ask(`${url}status.json`)).code, 500)
    assert.equal((await ask(`${url}status.json`)).code, 500)
    isStatusBroken = false
    assert.equal(logger.lines.filter((line) => line.level === 'warn').length, 1)
    assert.match((await ask(`${url}metrics`)).text, /^gym_node_observe_faults_total\{part="http"\} 2$/m)
  })

  it('names a taken port PORT_IN_USE', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as AddressInfo
    const second = observatoryOn({ host: '127.0.0.1', port }, stateDir)
    await assert.rejects(second.start(), { code: 'PORT_IN_USE' })
    await second.stop()
    await new Promise((resolve) => other.close(resolve))
  })

  it('names an impossible address or port CONFIG_INVALID', async () => {
    for (const listen of [
      { host: '192.0.2.1', port: 0 },
      { host: '127.0.0.1', port: 70_000 },
    ]) {
      const second = observatoryOn(listen, stateDir)
      await assert.rejects(second.start(), { code: 'CONFIG_INVALID' })
      await second.stop()
    }
  })

  it('starts and stops twice without harm, and serves nothing when told so', async () => {
    const quiet = createObservatory({ ...quietOptions(stateDir), listen: null })
    assert.equal(await quiet.start(), null)
    await quiet.stop()
    await quiet.stop()
    quiet.emit({ type: 'error', code: 'LATE', message: 'after stop' })
    const twice = observatoryOn({ host: '127.0.0.1', port: 0 }, stateDir)
    assert.deepEqual(await twice.start(), await twice.start())
    await twice.stop()
    await twice.stop()
  })
})

function quietOptions(stateDir: string): Parameters<typeof createObservatory>[0] {
  const nothing = async (): Promise<void> => {}
  return {
    stateDir: join(stateDir, 'second'),
    listen: null,
    token: null,
    status: () => statusDocument(),
    controls: { pause: nothing, resume: nothing, leave: nothing },
    logger: new ListLogger(),
  }
}

function observatoryOn(listen: { host: string; port: number }, stateDir: string): Observatory {
  return createObservatory({ ...quietOptions(stateDir), listen })
}
