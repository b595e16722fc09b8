/**
 * Prepared weights, kept for the next run in the user's cache folder: one file and its description for each model and
 * format, made by whoever needs it first, checked by hash before every use, the least recently used removed beyond a
 * size. A process that is killed leaves nothing that the next one does not finish or clear away.
 */
import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readdir, readFile, realpath, rename, rm, stat, utimes } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import {
  WEIGHT_CACHE_BYTES,
  WEIGHT_CACHE_LEASE_MS,
  WEIGHT_CACHE_POLL_MS,
  WEIGHT_CACHE_STALE_MS,
} from '../defaults.ts'

const placeSchema = z.object({
  stored: z.enum(['F32', 'U4', 'U8']),
  offset: z.int().nonnegative(),
  byteLength: z.int().nonnegative(),
  scales: z.object({ block: z.int().positive(), offset: z.int(), zerosOffset: z.int() }).optional(),
})

const entrySchema = z.object({
  bytes: z.int().nonnegative(),
  sha256: z.string(),
  matrices: z.record(z.string(), placeSchema),
  decodeHead: placeSchema.optional(),
})

/** Where prepared matrices lie in their file: by name, and the head as decoding wants it. */
export type PreparedIndex = Pick<z.infer<typeof entrySchema>, 'matrices' | 'decodeHead'>

/** A prepared file in use. */
export interface CachedWeights {
  /** Absolute path, free of symbolic links. */
  readonly file: string
  readonly index: PreparedIndex
  /** Ends its use: it may be removed when others need the room. */
  release(): void
}

/** The folder: GYM_CACHE_DIR, the service manager's CACHE_DIRECTORY, or gym-node in the user's cache folder. */
export function weightCacheFolder(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const base =
    env['GYM_CACHE_DIR'] ??
    env['CACHE_DIRECTORY'] ??
    path.join(env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache'), 'gym-node')
  return path.resolve(base, 'weights')
}

/**
 * The prepared file of a key, from the folder or made by `make` at the path that it is given. Of several processes one
 * makes it and the others wait. Rejects with the system's error where the folder cannot be written.
 */
export async function cachedWeights(
  folder: string,
  key: string,
  make: (file: string) => Promise<PreparedIndex>,
): Promise<CachedWeights> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const home = await realpath(folder)
  const names = entryNames(home, key)
  for (;;) {
    const index = await readEntry(names)
    if (index !== undefined) return lease(names, index)
    if (await claim(names.lock)) break
    await sleep(WEIGHT_CACHE_POLL_MS)
  }
  const stopTouching = keepFresh(names.lock, WEIGHT_CACHE_STALE_MS / 4)
  // A name of its own: should the lock be taken away wrongly, two make the same bytes and both are right.
  const partial = `${names.file}.${randomUUID()}${PARTIAL}`
  try {
    const index = await make(partial)
    await sync(partial)
    const { size } = await stat(partial)
    const entry = { ...index, bytes: size, sha256: await hashOf(partial) }
    await rename(partial, names.file)
    await writeDurably(names.entry, JSON.stringify(entry))
    await sync(home)
    await evict(home, names.entry)
    return await lease(names, index)
  } finally {
    stopTouching()
    await rm(partial, { force: true })
    await rm(names.lock, { force: true })
  }
}

/** Ends the names of files that are being made. */
const PARTIAL = '.partial'

interface EntryNames {
  readonly file: string
  readonly entry: string
  /** There while the file is made, and held as long as its time of change moves on. */
  readonly lock: string
}

function entryNames(folder: string, key: string): EntryNames {
  const base = path.join(folder, key)
  return { file: `${base}.bin`, entry: `${base}.json`, lock: `${base}.lock` }
}

/** A whole and unaltered entry; anything else is removed and undefined. */
async function readEntry({ file, entry }: EntryNames): Promise<PreparedIndex | undefined> {
  const text = await readFile(entry, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  try {
    const { bytes, sha256, ...index } = entrySchema.parse(JSON.parse(text))
    const { size } = await stat(file)
    if (size === bytes && (await hashOf(file)) === sha256) return index
  } catch {
    // Unreadable is as good as altered: it is made again.
  }
  await rm(entry, { force: true })
  return undefined
}

/** Whether this process may make the file; a lock that nobody has touched for a while is taken away first. */
async function claim(lock: string): Promise<boolean> {
  try {
    const handle = await open(lock, 'wx', 0o600)
    await handle.close()
    return true
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
  if (await isStale(lock)) await rm(lock, { force: true })
  return false
}

async function isStale(file: string): Promise<boolean> {
  const seen = await stat(file).catch(() => undefined)
  return seen !== undefined && Date.now() - seen.mtimeMs > WEIGHT_CACHE_STALE_MS
}

/** Keeps an entry's time of use fresh until it is released. */
async function lease({ file, entry }: EntryNames, index: PreparedIndex): Promise<CachedWeights> {
  await touch(entry)
  return { file, index, release: keepFresh(entry, WEIGHT_CACHE_LEASE_MS / 4) }
}

/** Touches a file again and again; the returned function ends it. */
function keepFresh(file: string, everyMs: number): () => void {
  const timer = setInterval(() => void touch(file), everyMs)
  timer.unref()
  return () => clearInterval(timer)
}

async function touch(file: string): Promise<void> {
  const now = new Date()
  // Removed by hand meanwhile: what is mapped stays.
  await utimes(file, now, now).catch(() => undefined)
}

/** Removes entries from the least recently used on until the folder fits, and files that no entry describes. */
async function evict(folder: string, keep: string): Promise<void> {
  const names = await readdir(folder)
  for (const name of names.filter((each) => each.endsWith(PARTIAL)))
    if (await isStale(path.join(folder, name))) await rm(path.join(folder, name), { force: true })
  const entries = await Promise.all(
    names
      .filter((name) => name.endsWith('.bin'))
      .map(async (name) => {
        const file = path.join(folder, name)
        const entry = path.join(folder, `${path.basename(name, '.bin')}.json`)
        const size = (await stat(file).catch(() => undefined))?.size ?? 0
        const used = (await stat(entry).catch(() => undefined))?.mtimeMs ?? 0
        return { file, entry, size, used }
      }),
  )
  let total = entries.reduce((sum, { size }) => sum + size, 0)
  for (const { file, entry, size, used } of entries.sort((a, b) => a.used - b.used)) {
    const isInUse = entry === keep || (used > 0 && Date.now() - used < WEIGHT_CACHE_LEASE_MS)
    if (isInUse || (used > 0 && total <= WEIGHT_CACHE_BYTES)) continue
    await rm(entry, { force: true })
    await rm(file, { force: true })
    total -= size
  }
}

async function hashOf(file: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash)
  return hash.digest('hex')
}

async function writeDurably(file: string, text: string): Promise<void> {
  const fresh = `${file}.${randomUUID()}${PARTIAL}`
  const handle = await open(fresh, 'w', 0o600)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(fresh, file)
}

async function sync(file: string): Promise<void> {
  const handle = await open(file)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
