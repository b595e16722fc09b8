/** `daemon.json` in the state folder: how other commands find the running daemon. Not a lock: see folder.ts. */
import { readFile, rm } from 'node:fs/promises'
import { z } from 'zod'
import { errnoOf, NodeError } from '../errors.ts'
import { writeFileDurably } from './atomic.ts'

const schema = z.object({
  pid: z.int().positive(),
  peer_id: z.string(),
  addresses: z.array(z.string()),
  http: z.string().nullable(),
  started_at: z.string(),
  version: z.string(),
})

/** What a running daemon says about where it is. */
export type DaemonFile = z.infer<typeof schema>

/** Writes the file at start. */
export async function writeDaemonFile(path: string, daemon: DaemonFile): Promise<void> {
  await writeFileDurably(path, `${JSON.stringify(daemon, null, 2)}\n`)
}

/** Reads it. Throws NodeError NOT_RUNNING when there is none. */
export async function readDaemonFile(path: string): Promise<DaemonFile> {
  try {
    return schema.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch (error) {
    if (errnoOf(error) === 'ENOENT')
      throw new NodeError('NOT_RUNNING', `no daemon has its state in ${path}`, { cause: error })
    throw new NodeError('NOT_RUNNING', `${path} is not what a daemon writes`, { cause: error })
  }
}

/** Removes it at the end. */
export async function removeDaemonFile(path: string): Promise<void> {
  await rm(path, { force: true })
}

/** Whether a process of this id runs, whoever it belongs to. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM' // alive, of another user
  }
}
