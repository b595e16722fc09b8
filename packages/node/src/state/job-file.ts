/**
 * Which job a state folder is of. Its checkpoint, promises and deltas mean nothing to another job, so a daemon that is
 * started with another name is refused rather than let in with them.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { errnoOf, NodeError } from '../errors.ts'
import { asStateError, writeFileDurably } from './atomic.ts'
import type { StatePaths } from './folder.ts'

/**
 * Claims the folder for `job`. A folder in which no round and no vote was ever kept changes its job freely.
 * Throws NodeError STATE_MISMATCH when it holds the state of another job.
 */
export async function claimForJob(paths: StatePaths, job: string): Promise<void> {
  const found = await readJob(paths.job)
  if (found === job) return
  if (found !== null && [paths.checkpoint, paths.view].some((path) => existsSync(path)))
    throw new NodeError(
      'STATE_MISMATCH',
      `${paths.root} holds the state of job "${found}", the configuration says job "${job}"; to take this identity along, copy ${paths.identity} into the other folder`,
    )
  await writeFileDurably(paths.job, `${job}\n`)
}

async function readJob(path: string): Promise<string | null> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null // a new folder, or one from before jobs were noted
    throw asStateError(error, path)
  }
}
