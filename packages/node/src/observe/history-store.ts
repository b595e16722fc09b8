/**
 * The history in one SQLite file: a row per step, per round and per event, pruned by count, read back in
 * buckets. Synchronous; it lives in the history thread and is never called on the daemon's own thread.
 */
import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import type { DaemonEvent, DaemonState } from '../status.ts'
import { HISTORY_BUSY_MS, PRUNE_EVERY_ROWS, type HistoryLimits } from './defaults.ts'
import { ROUND_SERIES, roundNames, seriesMeta, STEP_SERIES, stepNames } from './series.ts'
import type { SeriesAxis, SeriesName } from './series.ts'

/** Raised when the tables change; a file of another version is set aside, not converted. */
const SCHEMA_VERSION = 1

/** An event with the time at which the daemon emitted it, ms since 1970. */
export interface TimedEvent {
  readonly at: number
  readonly event: DaemonEvent
}

/** What to read: series, at most `points` buckets each, between two steps or rounds (inclusive). */
export interface SeriesQuery {
  readonly series: readonly SeriesName[]
  readonly points: number
  readonly from: number | null
  readonly to: number | null
}

/** Buckets of one axis. `x[i]` is the last step or round of bucket i, `at[i]` its time; null where nothing finite. */
export interface SeriesTable {
  readonly axis: SeriesAxis
  readonly rows: number
  readonly x: number[]
  readonly at: number[]
  readonly series: Record<string, { unit: string; mean: Cell[]; min: Cell[]; max: Cell[] }>
}

type Cell = number | null

/** Told when a file had to be set aside: where it went and why. */
export type SetAside = (fields: { from: string; to: string; reason: string }) => void

/** States through which every round goes. */
const ROUTINE_STATES: ReadonlySet<DaemonState> = new Set([
  'waiting_for_peers',
  'syncing',
  'training',
  'reducing',
  'validating',
])

/** SQLite's result codes that mean the file itself is bad: SQLITE_CORRUPT and SQLITE_NOTADB. */
const BAD_FILE = new Set([11, 26])

/** The open file. Every method may throw what SQLite throws; `isBadFile` tells which of it means corruption. */
export class HistoryStore {
  readonly #db: DatabaseSync
  readonly #limits: HistoryLimits
  readonly #insert: { step: StatementSync; round: StatementSync; event: StatementSync }
  readonly #rewind: { step: StatementSync; round: StatementSync }
  readonly #replace: StatementSync
  readonly #recent: StatementSync
  readonly #recentOf: StatementSync
  readonly #sincePrune = new Map<string, number>()

  private constructor(db: DatabaseSync, limits: HistoryLimits) {
    this.#db = db
    this.#limits = limits
    this.#insert = {
      step: db.prepare(insertSql('step', stepNames())),
      round: db.prepare(insertSql('round', roundNames())),
      event: db.prepare('INSERT INTO event (at, type, body) VALUES (?, ?, ?)'),
    }
    this.#rewind = {
      step: db.prepare('DELETE FROM step WHERE x >= ?'),
      round: db.prepare('DELETE FROM round WHERE x >= ?'),
    }
    this.#replace = db.prepare('UPDATE event SET at = ?, body = ? WHERE id = ?')
    this.#recent = db.prepare(
      "SELECT id, at, body FROM event WHERE type NOT IN ('rollout', 'delta') ORDER BY id DESC LIMIT ?",
    )
    this.#recentOf = db.prepare('SELECT id, at, body FROM event WHERE type = ? ORDER BY id DESC LIMIT ?')
  }

  /**
   * Opens or creates the file for one job. A file that SQLite calls corrupt, of another version, or of another
   * job is renamed beside itself (never deleted), reported through `setAside`, and a fresh one is made.
   */
  static open(path: string, job: string, limits: HistoryLimits, setAside: SetAside): HistoryStore {
    mkdirSync(dirname(path), { recursive: true })
    const isOld = existsSync(path)
    let reason: string
    try {
      const db = connect(path)
      const unusable = isOld ? whyUnusable(db, job) : null
      if (unusable === null) return HistoryStore.#fresh(db, job, limits)
      db.close()
      reason = unusable
    } catch (error) {
      if (!isOld || !isBadFile(error)) throw error
      reason = error instanceof Error ? error.message : String(error)
    }
    setAside({ from: path, to: moveAside(path), reason })
    return HistoryStore.#fresh(connect(path), job, limits)
  }

  static #fresh(db: DatabaseSync, job: string, limits: HistoryLimits): HistoryStore {
    db.exec('BEGIN IMMEDIATE')
    db.exec(tableSql('step', stepNames()))
    db.exec(tableSql('round', roundNames()))
    db.exec(
      'CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL)',
    )
    db.exec('CREATE INDEX IF NOT EXISTS event_type ON event (type, id)')
    db.exec('CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)')
    db.prepare("INSERT OR REPLACE INTO meta VALUES ('job', ?)").run(job)
    db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`)
    db.exec('COMMIT')
    return new HistoryStore(db, limits)
  }

  /** Stores events in one transaction: all or none. A step or round seen again replaces what followed it. */
  append(events: readonly TimedEvent[]): void {
    this.#db.exec('BEGIN IMMEDIATE')
    try {
      for (const timed of events) this.#put(timed)
      this.#db.exec('COMMIT')
    } catch (error) {
      this.#rollback()
      throw error
    }
  }

  /** Buckets of the asked series, one table for each axis among them. */
  read(query: SeriesQuery): SeriesTable[] {
    const axes = new Map<SeriesAxis, SeriesName[]>()
    for (const name of new Set(query.series)) {
      const { axis } = seriesMeta(name)
      axes.set(axis, [...(axes.get(axis) ?? []), name])
    }
    return [...axes].map(([axis, names]) => this.#readAxis(axis, names, query))
  }

  /** Newest events first; `type` null means the log: everything but rollouts and deltas. */
  recent(type: DaemonEvent['type'] | null, limit: number): { id: number; at: number; event: DaemonEvent }[] {
    const rows = type === null ? this.#recent.all(limit) : this.#recentOf.all(type, limit)
    return rows.map((row) => ({
      id: Number(row['id']),
      at: Number(row['at']),
      event: JSON.parse(String(row['body'])) as DaemonEvent,
    }))
  }

  /** Writes the log into the file and closes it. */
  close(): void {
    this.#db.close()
  }

  #put({ at, event }: TimedEvent): void {
    switch (event.type) {
      case 'step': {
        const { stats } = event
        this.#rewind.step.run(stats.step)
        this.#insert.step.run(
          stats.step,
          at,
          ...stepNames().map((name) => finite(STEP_SERIES[name].value(stats))),
        )
        this.#prune('step', this.#limits.steps)
        return
      }
      case 'round': {
        const { round } = event
        this.#rewind.round.run(round.round)
        this.#insert.round.run(
          round.round,
          at,
          ...roundNames().map((name) => finite(ROUND_SERIES[name].value(round))),
        )
        this.#prune('round', this.#limits.rounds)
        return
      }
      case 'state':
        if (this.#replacesRoutine(at, event)) return
        this.#insert.event.run(at, event.type, JSON.stringify(event))
        this.#pruneEvents(event.type, this.#limits.state)
        return
      case 'verdict':
        if (event.isOld) return
        this.#insert.event.run(at, event.type, JSON.stringify(event))
        this.#pruneEvents(event.type, this.#limits.verdict)
        return
      case 'view':
      case 'delta':
      case 'rollout':
      case 'error':
        this.#insert.event.run(at, event.type, JSON.stringify(event))
        this.#pruneEvents(event.type, this.#limits[event.type])
        return
    }
  }

  /**
   * A ring goes through the same states in every round. One of these right after another takes its place, so
   * that the log holds what happened and not the ticking of the clock.
   */
  #replacesRoutine(at: number, event: Extract<DaemonEvent, { type: 'state' }>): boolean {
    if (!ROUTINE_STATES.has(event.state)) return false
    const [last] = this.recent(null, 1)
    if (last?.event.type !== 'state' || !ROUTINE_STATES.has(last.event.state)) return false
    this.#replace.run(at, JSON.stringify(event), last.id)
    return true
  }

  #prune(table: SeriesAxis, limit: number): void {
    if (!this.#isTimeToPrune(table)) return
    this.#db
      .prepare(`DELETE FROM ${table} WHERE x <= (SELECT x FROM ${table} ORDER BY x DESC LIMIT 1 OFFSET ?)`)
      .run(limit)
  }

  #pruneEvents(type: DaemonEvent['type'], limit: number): void {
    if (!this.#isTimeToPrune(`event ${type}`)) return
    this.#db
      .prepare(
        'DELETE FROM event WHERE type = ? AND id <= (SELECT id FROM event WHERE type = ? ORDER BY id DESC LIMIT 1 OFFSET ?)',
      )
      .run(type, type, limit)
  }

  #isTimeToPrune(key: string): boolean {
    const rows = (this.#sincePrune.get(key) ?? PRUNE_EVERY_ROWS - 1) + 1
    this.#sincePrune.set(key, rows % PRUNE_EVERY_ROWS)
    return rows >= PRUNE_EVERY_ROWS
  }

  #readAxis(axis: SeriesAxis, names: readonly SeriesName[], query: SeriesQuery): SeriesTable {
    const series: SeriesTable['series'] = {}
    for (const name of names) series[name] = { unit: seriesMeta(name).unit, mean: [], min: [], max: [] }
    const span = this.#db
      .prepare(`SELECT min(x) AS lo, max(x) AS hi, count(*) AS rows FROM ${axis} WHERE x BETWEEN ? AND ?`)
      .get(query.from ?? 0, query.to ?? Number.MAX_SAFE_INTEGER)
    const table: SeriesTable = { axis, rows: Number(span?.['rows'] ?? 0), x: [], at: [], series }
    if (span === undefined || table.rows === 0) return table
    const lo = Number(span['lo'])
    const hi = Number(span['hi'])
    const columns = names.map((name) => `avg(${name}), min(${name}), max(${name})`).join(', ')
    // One range scan of the primary key for each bucket: a GROUP BY over a computed bucket sorts all rows and
    // takes six times as long (100,000 rows: 25 ms against 150 ms).
    const bucket = this.#db.prepare(`SELECT max(x), max(at), ${columns} FROM ${axis} WHERE x >= ? AND x < ?`)
    bucket.setReturnArrays(true)
    const count = Math.min(query.points, hi - lo + 1)
    for (let i = 0; i < count; i++) {
      const start = lo + Math.floor((i * (hi - lo + 1)) / count)
      const end = lo + Math.floor(((i + 1) * (hi - lo + 1)) / count)
      pushBucket(table, names, bucket.get(start, end) as unknown as Cell[])
    }
    return table
  }

  #rollback(): void {
    try {
      this.#db.exec('ROLLBACK')
    } catch {
      // SQLite already rolled back by itself (disk full, I/O error): the first error is the one to report.
    }
  }
}

/** Whether an error of `node:sqlite` says that the file is corrupt or no database at all. */
export function isBadFile(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && BAD_FILE.has(Number(error.errcode) & 0xff)
}

function connect(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { timeout: HISTORY_BUSY_MS })
  try {
    db.exec('PRAGMA journal_mode = WAL')
    // In WAL mode NORMAL may lose the last moments of history at a power cut, never the file's integrity.
    db.exec('PRAGMA synchronous = NORMAL')
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

function whyUnusable(db: DatabaseSync, job: string): string | null {
  const check = db.prepare('PRAGMA quick_check(1)').get()
  const verdict = String(Object.values(check ?? {})[0])
  if (verdict !== 'ok') return `SQLite quick_check says: ${verdict}`
  const version = Number(db.prepare('PRAGMA user_version').get()?.['user_version'])
  if (version === 0) return null
  if (version !== SCHEMA_VERSION) return `history has version ${version}, this build writes ${SCHEMA_VERSION}`
  const found = db.prepare("SELECT value FROM meta WHERE key = 'job'").get()?.['value']
  return found === undefined || found === job
    ? null
    : `history is of job ${String(found)}, this daemon runs ${job}`
}

function moveAside(path: string): string {
  const stamp = new Date().toISOString().replaceAll(':', '').replace('.', '')
  const target = `${path}.aside-${stamp}`
  for (const suffix of ['', '-wal', '-shm']) {
    if (existsSync(path + suffix)) renameSync(path + suffix, target + suffix)
  }
  return target
}

function pushBucket(table: SeriesTable, names: readonly SeriesName[], cells: readonly Cell[]): void {
  const [x, at] = cells
  if (typeof x !== 'number' || typeof at !== 'number') return
  table.x.push(x)
  table.at.push(at)
  names.forEach((name, i) => {
    const target = table.series[name]
    target?.mean.push(cells[2 + 3 * i] ?? null)
    target?.min.push(cells[3 + 3 * i] ?? null)
    target?.max.push(cells[4 + 3 * i] ?? null)
  })
}

function tableSql(table: SeriesAxis, columns: readonly string[]): string {
  const reals = columns.map((name) => `${name} REAL`).join(', ')
  return `CREATE TABLE IF NOT EXISTS ${table} (x INTEGER PRIMARY KEY, at INTEGER NOT NULL, ${reals})`
}

function insertSql(table: SeriesAxis, columns: readonly string[]): string {
  return `INSERT INTO ${table} (x, at, ${columns.join(', ')}) VALUES (?, ?, ${columns.map(() => '?').join(', ')})`
}

function finite(value: number): Cell {
  return Number.isFinite(value) ? value : null
}
