/**
 * Writes the files of a folder together: each is whole on disk before the first takes its name, and when one cannot be
 * written nothing of them is left. It says what a person can do about it.
 */
import { mkdir, rename, rm, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GspoError } from '../errors.ts'

/** What helps against an error of the file system, by its code. */
const ADVICE: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full: free space, or name a folder on another disk',
  EDQUOT: "the user's quota is used up: free space, or name a folder on another disk",
  EFBIG: 'the file would be larger than this file system or user may write: name another folder',
  EACCES: 'this user may not write there: change the rights, or name another folder',
  EPERM: 'this user may not write there: change the rights, or name another folder',
  EROFS: 'the disk is mounted read-only: name a folder on another one',
  ENOTDIR: 'a part of the path is a file, not a folder: name another folder',
  EEXIST: 'a file stands where the folder should be: remove it, or name another folder',
  EISDIR: 'a folder stands where the file should be: remove it, or name another folder',
  ENOENT: 'the folder was removed meanwhile, or cannot be made there: name another one',
  EIO: 'the disk reports errors: look at the kernel log (dmesg), and name a folder on another disk',
}

/** Replaces or makes files in `dir`, making it when missing. Throws GspoError FILE_UNWRITABLE; what a source throws. */
export async function replaceFiles(
  dir: string,
  files: readonly (readonly [name: string, content: string | AsyncIterable<Uint8Array>])[],
): Promise<void> {
  const parts = files.map(([name, content]) => {
    const path = join(dir, name)
    return { path, content, temporary: `${path}.${process.pid}.tmp` }
  })
  let made: string | undefined
  let writing = dir
  try {
    made = await mkdir(dir, { recursive: true })
    for (const { path, content, temporary } of parts) {
      writing = path
      await writeFile(temporary, content, { flush: true })
    }
    for (const { path, temporary } of parts) {
      writing = path
      await rename(temporary, path)
    }
  } catch (cause) {
    // Best effort: the first error is the one to report.
    for (const { temporary } of parts) await rm(temporary, { force: true }).catch(() => undefined)
    if (made !== undefined) await rmdir(dir).catch(() => undefined)
    throw asUnwritable(cause, writing)
  }
}

/** An error of the file system as FILE_UNWRITABLE that says what to do; another one as it is. */
export function asUnwritable(cause: unknown, path: string): unknown {
  if (!(cause instanceof Error) || !('code' in cause) || typeof cause.code !== 'string') return cause
  const advice = ADVICE[cause.code]
  if (advice === undefined) return cause
  return new GspoError('FILE_UNWRITABLE', `cannot write ${path} (${cause.code}): ${advice}`, { cause })
}
