/** History on disk: what is stored comes back, bounded, in buckets, after restarts and after damage. */
import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import { DatabaseSync } from 'node:sqlite'
import { HISTORY_LIMITS } from '../src/observe/defaults.ts'
import { HistoryStore, type SeriesTable } from '../src/observe/history-store.ts'
import { History } from '../src/observe/history.ts'
import { SERIES_NAMES } from '../src/observe/series.ts'
import { everyEvent, roundStatus, stepStats } from './observe-fixtures.ts'

const NEVER = (): never => {
  throw new Error('nothing should have been set aside')
}

describe('the history store', () => {
  let root = ''
  let path = ''
  let count = 0

  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'gym-history-'))
  })
  beforeEach(() => {
    path = join(root, String(count++), 'history.sqlite')
  })
  after(async () => {
    await rm(root, { recursive: true })
  })

  function open(limits = {}): HistoryStore {
    return HistoryStore.open(path, 'job', { ...HISTORY_LIMITS, ...limits }, NEVER)
  }

  /** Steps from..to whose loss is the step's number, so that buckets can be checked by hand. */
  function fill(store: HistoryStore, from: number, to: number): void {
    const events = Array.from({ length: to - from + 1 }, (_, i) => {
      const step = from + i
      return {
        at: step * 1000,
        event: { type: 'step' as const, round: 1, stats: { ...stepStats(step), loss: step } },
      }
    })
    store.append(events)
  }

  function losses(
    store: HistoryStore,
    points: number,
    from: number | null = null,
    to: number | null = null,
  ): SeriesTable {
    const [table] = store.read({ series: ['loss'], points, from, to })
    assert.ok(table)
    return table
  }

  it('gives every point as it is while they fit', () => {
    const store = open()
    fill(store, 1, 5)
    const table = losses(store, 10)
    assert.deepEqual(table.x, [1, 2, 3, 4, 5])
    assert.deepEqual(table.at, [1000, 2000, 3000, 4000, 5000])
    assert.deepEqual(table.series['loss'], {
      unit: 'loss',
      mean: [1, 2, 3, 4, 5],
      min: [1, 2, 3, 4, 5],
      max: [1, 2, 3, 4, 5],
    })
    store.close()
  })

  it('gives mean, least and greatest of equal buckets when there are more', () => {
    const store = open()
    fill(store, 1, 12)
    const table = losses(store, 3)
    // By hand: buckets 1-4, 5-8, 9-12.
    assert.deepEqual(table.x, [4, 8, 12])
    assert.deepEqual(table.series['loss'], {
      unit: 'loss',
      mean: [2.5, 6.5, 10.5],
      min: [1, 5, 9],
      max: [4, 8, 12],
    })
    assert.equal(table.rows, 12)
    store.close()
  })

  it('reads a stretch in full detail, and nothing outside it', () => {
    const store = open()
    fill(store, 1, 100)
    assert.deepEqual(losses(store, 50, 40, 43).x, [40, 41, 42, 43])
    assert.deepEqual(losses(store, 50, 101, 200).x, [])
    store.close()
  })

  it('leaves a gap where no step was, and where a value was not finite', () => {
    const store = open()
    fill(store, 1, 2)
    fill(store, 9, 10)
    store.append([{ at: 11_000, event: { type: 'step', round: 1, stats: { ...stepStats(11), loss: NaN } } }])
    const table = losses(store, 11)
    assert.deepEqual(table.x, [1, 2, 9, 10, 11])
    assert.deepEqual(table.series['loss']?.mean, [1, 2, 9, 10, null])
    store.close()
  })

  it('lets a step that is done again replace what had followed it', () => {
    const store = open()
    fill(store, 1, 10)
    fill(store, 6, 7)
    assert.deepEqual(losses(store, 20).x, [1, 2, 3, 4, 5, 6, 7])
    store.close()
  })

  it('keeps the newest rows of each kind and no more than its limit and one batch', () => {
    const store = open({ steps: 100, rollout: 10 })
    fill(store, 1, 1000)
    const table = losses(store, 5000)
    assert.equal(table.x.at(-1), 1000)
    assert.ok(table.x.length >= 100 && table.x.length <= 100 + 256, `${table.x.length} rows`)
    const rollout = (step: number) => ({
      at: step,
      event: { type: 'rollout' as const, step, prompt: '', completion: '', reward: 0 },
    })
    store.append(Array.from({ length: 513 }, (_, i) => rollout(i)))
    assert.equal(store.recent('rollout', 500).length, 10)
    assert.equal(store.recent('rollout', 1)[0]?.at, 512)
    store.close()
  })

  it('knows all series of the catalogue after a restart', () => {
    const first = open()
    first.append(everyEvent().map((event, i) => ({ at: i, event })))
    first.close()
    const again = open()
    const tables = again.read({ series: SERIES_NAMES, points: 10, from: null, to: null })
    assert.deepEqual(
      tables.flatMap((table) => Object.keys(table.series)),
      SERIES_NAMES,
    )
    assert.ok(
      tables.every((table) => Object.values(table.series).every(({ mean }) => typeof mean[0] === 'number')),
    )
    assert.deepEqual(
      again.recent(null, 10).map(({ event }) => event.type),
      ['error', 'view', 'state'],
    )
    assert.deepEqual(again.recent('delta', 10)[0]?.event, everyEvent()[4])
    again.close()
  })

  it('keeps one entry for the phases of many rounds, and every other change of state', () => {
    const store = open()
    const states = [
      'starting',
      'waiting_for_peers',
      'training',
      'reducing',
      'training',
      'paused',
      'training',
      'reducing',
      'stopping',
    ] as const
    states.forEach((state, at) => {
      store.append([{ at, event: { type: 'state', state, reason: String(at) } }])
    })
    assert.deepEqual(
      store.recent(null, 20).map(({ at, event }) => [at, event.type === 'state' && event.state]),
      [
        [8, 'stopping'],
        [7, 'reducing'],
        [5, 'paused'],
        [4, 'training'],
        [0, 'starting'],
      ],
    )
    store.close()
  })

  it('stores a batch wholly or not at all', () => {
    const store = open()
    const broken = { at: 2, event: { type: 'round' as const, round: { ...roundStatus(2), round: 1.5 } } }
    assert.throws(() => {
      store.append([{ at: 1, event: { type: 'round', round: roundStatus(1) } }, broken])
    })
    store.append([{ at: 3, event: { type: 'round', round: roundStatus(3) } }])
    assert.deepEqual(store.read({ series: ['round_attempts'], points: 9, from: null, to: null })[0]?.x, [3])
    store.close()
  })

  const damages: [string, (path: string) => Promise<void>, RegExp][] = [
    [
      'is no database',
      (file) => writeFile(file, 'not SQLite at all, but long enough to have a header'.repeat(100)),
      /not a database/,
    ],
    [
      'has a damaged page',
      async (file) => {
        const bytes = await readFile(file)
        await writeFile(file, bytes.fill(0xff, 4096, 20_000))
      },
      /malformed|quick_check/,
    ],
    [
      'is of another version',
      async (file) => {
        const db = new DatabaseSync(file)
        db.exec('PRAGMA user_version = 99')
        db.close()
      },
      /version 99/,
    ],
    [
      'is of another job',
      async (file) => {
        const db = new DatabaseSync(file)
        db.exec("UPDATE meta SET value = 'other'")
        db.close()
      },
      /of job other/,
    ],
  ]
  for (const [name, damage, reason] of damages) {
    it(`sets a file aside that ${name}, says so, and begins a fresh one`, async () => {
      const store = open()
      fill(store, 1, 400)
      store.close()
      await damage(path)
      const asides: { from: string; to: string; reason: string }[] = []
      const fresh = HistoryStore.open(path, 'job', HISTORY_LIMITS, (fields) => asides.push(fields))
      fill(fresh, 1, 3)
      assert.deepEqual(losses(fresh, 10).x, [1, 2, 3])
      fresh.close()
      assert.equal(asides.length, 1)
      assert.match(asides[0]?.reason ?? '', reason)
      const names = await readdir(join(path, '..'))
      assert.ok(
        names.some((file) => /^history\.sqlite\.aside-\d{4}-/.test(file)),
        names.join(),
      )
    })
  }
})

describe('the history thread', () => {
  it('stores what was appended before it is closed, and answers queries', async () => {
    const root = await mkdtemp(join(tmpdir(), 'gym-history-'))
    const faults: string[] = []
    const notices = { fault: (message: string) => faults.push(message), aside: NEVER }
    const history = new History({ path: join(root, 'h.sqlite'), job: 'job', limits: HISTORY_LIMITS, notices })
    for (const event of everyEvent()) history.append(5, event)
    assert.equal((await history.recent('rollout', 5)).length, 1)
    history.append(6, { type: 'state', state: 'stopping', reason: 'asked to stop' })
    await history.close()
    await history.close()
    history.append(7, { type: 'state', state: 'failed', reason: 'after the end' })
    await assert.rejects(history.recent('state', 5), /closed/)
    const store = HistoryStore.open(join(root, 'h.sqlite'), 'job', HISTORY_LIMITS, NEVER)
    assert.deepEqual(
      store.recent('state', 5).map(({ at }) => at),
      [6, 5],
    )
    store.close()
    assert.deepEqual(faults, [])
    await rm(root, { recursive: true })
  })

  it('reports a folder in which nothing can be written, and never throws at the daemon', async () => {
    const faults: [string, number][] = []
    const notices = {
      fault: (message: string, events: number) => faults.push([message, events]),
      aside: NEVER,
    }
    // A file where a folder should be: fails for every user, root included.
    const history = new History({
      path: '/dev/null/history.sqlite',
      job: 'job',
      limits: HISTORY_LIMITS,
      notices,
    })
    history.append(1, { type: 'error', code: 'X', message: '' })
    await assert.rejects(history.recent(null, 1))
    await history.close()
    assert.deepEqual(
      faults.map(([, events]) => events),
      [1, 0],
    )
    assert.match(faults[0]?.[0] ?? '', /ENOTDIR|not a directory|EEXIST/)
  })

  it('recovers when the file is damaged while it runs', async () => {
    const root = await mkdtemp(join(tmpdir(), 'gym-history-'))
    const path = join(root, 'h.sqlite')
    const first = HistoryStore.open(path, 'job', HISTORY_LIMITS, NEVER)
    first.append(
      Array.from({ length: 400 }, (_, i) => ({
        at: i,
        event: { type: 'step' as const, round: 1, stats: stepStats(i + 1) },
      })),
    )
    first.close()
    const asides: string[] = []
    const faults: string[] = []
    const notices = {
      fault: (message: string) => faults.push(message),
      aside: ({ reason }: { reason: string }) => asides.push(reason),
    }
    const history = new History({ path, job: 'job', limits: HISTORY_LIMITS, notices })
    await history.recent(null, 1)
    const bytes = await readFile(path)
    await writeFile(path, bytes.fill(0xff, 4096))
    history.append(1, { type: 'step', round: 1, stats: stepStats(401) })
    const [table] = await history.read({ series: ['loss'], points: 500, from: null, to: null })
    assert.equal(table?.x.at(-1), 401)
    await history.close()
    // SQLite may have had the pages in its cache still; what counts is that nothing was lost silently.
    assert.deepEqual(faults, [])
    assert.ok(asides.length <= 1)
    await rm(root, { recursive: true })
  })
})
