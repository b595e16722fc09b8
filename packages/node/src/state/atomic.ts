/**
 * Writes a file so that after a crash at any moment either the old or the new content is there: temporary
 * file, fsync, rename, fsync of the folder. Takes a stream, so that a large delta never sits in memory.
 */
import { open, readdir, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { errnoOf, messageOf, NodeError } from '../errors.ts'

/** Ending of unfinished files; `removeUnfinished` sweeps them at start. */
const UNFINISHED = '.unfinished'

/** Writes `content` to `path` durably and returns the bytes written. Throws NodeError STATE_FULL or STATE_UNWRITABLE. */
export async function writeFileDurably(
  path: string,
  content: string | Uint8Array | AsyncIterable<Uint8Array>,
  mode = 0o600,
): Promise<number> {
  const unfinished = path + UNFINISHED
  try {
    const file = await open(unfinished, 'w', mode)
    let bytes: number
    try {
      await file.writeFile(content)
      await file.sync()
      bytes = (await file.stat()).size
    } finally {
      await file.close()
    }
    await rename(unfinished, path)
    await syncFolder(dirname(path))
    return bytes
  } catch (error) {
    // Best effort: the sweep at the next start removes what is left, and the first error is the one to report.
    await rm(unfinished, { force: true }).catch(() => undefined)
    throw asStateError(error, path)
  }
}

/** Makes a rename or a new file in `folder` durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Removes what a crash left half written directly in `folder`. */
export async function removeUnfinished(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (name.endsWith(UNFINISHED)) await rm(join(folder, name), { recursive: true, force: true })
  }
}

/** Turns an error of the file system into one that says what to do; passes others on. */
export function asStateError(error: unknown, path: string): unknown {
  const code = errnoOf(error) ?? ''
  if (['ENOSPC', 'EDQUOT'].includes(code))
    return new NodeError('STATE_FULL', `no space left to write ${path}`, { cause: error })
  if (code === 'ENOENT') {
    const seen = `cannot write ${path} (ENOENT): its folder was removed while it was in use, or its disk is gone`
    return new NodeError('STATE_UNWRITABLE', seen, { cause: error })
  }
  if (['EROFS', 'EACCES', 'EPERM', 'ENOTDIR', 'EIO'].includes(code)) {
    return new NodeError('STATE_UNWRITABLE', `cannot write ${path}: ${messageOf(error)}`, { cause: error })
  }
  return error
}
