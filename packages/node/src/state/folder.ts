/**
 * The state folder of one daemon: its layout, its version and its lock. Only one process may have it open.
 */
import { mkdir, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { errnoOf, messageOf, NodeError } from '../errors.ts'
import { asStateError, removeUnfinished, writeFileDurably } from './atomic.ts'
import { bringUpToDate, LAYOUT_VERSION } from './migrations.ts'

/** Where things are in a state folder. */
export interface StatePaths {
  readonly root: string
  readonly identity: string
  readonly deltas: string
  readonly traces: string
  readonly checkpoint: string
  readonly sequence: string
  /** name of the job that all of this is of */
  readonly job: string
  readonly view: string
  readonly result: string
  /** addresses of peers that were met */
  readonly peers: string
  readonly daemon: string
}

/** An open, locked state folder. */
export interface StateFolder {
  readonly paths: StatePaths
  /** Version that the folder had when it was of an older gym-node; null otherwise. */
  readonly migratedFrom: number | null
  /** Gives the lock back. */
  close(): void
}

/** The layout of the folder at `root`; touches nothing. */
export function statePaths(root: string): StatePaths {
  const at = resolve(root)
  return {
    root: at,
    identity: join(at, 'identity'),
    deltas: join(at, 'deltas'),
    traces: join(at, 'traces'),
    checkpoint: join(at, 'checkpoint'),
    sequence: join(at, 'sequence'),
    job: join(at, 'job'),
    view: join(at, 'view'),
    result: join(at, 'result'),
    peers: join(at, 'peers.json'),
    daemon: join(at, 'daemon.json'),
  }
}

/** Creates the folder when missing, locks it, migrates an older version and sweeps what a crash left unfinished. */
export async function openStateFolder(root: string): Promise<StateFolder> {
  const paths = statePaths(root)
  try {
    await mkdir(paths.root, { recursive: true, mode: 0o700 })
    await mkdir(paths.deltas, { recursive: true, mode: 0o700 })
    await mkdir(paths.traces, { recursive: true, mode: 0o700 })
  } catch (error) {
    // Making a path on a read-only disk fails with ENOENT, and over a file with EEXIST: neither can be written to.
    if (['ENOENT', 'EEXIST'].includes(errnoOf(error) ?? '')) {
      throw new NodeError('STATE_UNWRITABLE', `cannot make the folder ${paths.root}: ${messageOf(error)}`, {
        cause: error,
      })
    }
    throw asStateError(error, paths.root)
  }
  const unlock = await takeLock(paths.root)
  let migratedFrom: number | null = null
  try {
    await removeUnfinished(paths.root)
    const found = await bringUpToDate(paths.root)
    if (found !== null && found !== LAYOUT_VERSION) migratedFrom = found
    await removeUnfinished(paths.deltas)
    await removeUnfinished(paths.traces)
  } catch (error) {
    unlock()
    throw asStateError(error, paths.root)
  }
  return { paths, migratedFrom, close: unlock }
}

/**
 * Takes the folder's lock. The lock is SQLite's exclusive file lock on an empty database, which the kernel
 * drops when the process dies, however it dies: a restart straight after SIGKILL never meets a stale lock.
 */
async function takeLock(root: string): Promise<() => void> {
  const holder = join(root, 'lock.pid')
  let database: DatabaseSync
  try {
    database = new DatabaseSync(join(root, 'lock'), { timeout: 0 })
  } catch (error) {
    throw new NodeError('STATE_UNWRITABLE', `cannot open ${join(root, 'lock')} for writing`, { cause: error })
  }
  try {
    database.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if (isBusy(error)) {
      const pid = await readFile(holder, 'utf8').catch(() => '')
      throw new NodeError(
        'STATE_LOCKED',
        `${root} is in use by the daemon with pid ${pid.trim() || 'unknown'}`,
        { cause: error },
      )
    }
    throw new NodeError('STATE_UNWRITABLE', `cannot lock ${join(root, 'lock')}`, { cause: error })
  }
  let held = true
  const unlock = (): void => {
    if (held) database.close()
    held = false
  }
  try {
    await writeFileDurably(holder, `${process.pid}\n`)
  } catch (error) {
    unlock()
    throw error
  }
  return unlock
}

/** SQLITE_BUSY: somebody else holds the lock. */
function isBusy(error: unknown): boolean {
  const SQLITE_BUSY = 5
  return error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY
}
