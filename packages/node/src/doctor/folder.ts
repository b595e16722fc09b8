/** The state folder: can it be written, is there room, and are the seeds of the identity whole and private. */
import { constants } from 'node:fs'
import { access, stat, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { formatBytes } from '../cli/format.ts'
import type { NodeConfig } from '../config/schema.ts'
import { LEAST_DISK_BYTES } from '../defaults.ts'
import { messageOf } from '../errors.ts'
import { statePaths } from '../state/folder.ts'
import { finding, type Finding } from './finding.ts'

/** Room and rights, then the identity. Changes nothing. */
export async function examineFolder(config: NodeConfig): Promise<Finding[]> {
  return [await disk(config), await identity(config)]
}

async function disk(config: NodeConfig): Promise<Finding> {
  const folder = await nearestExisting(config.state_dir)
  try {
    await access(folder, constants.W_OK)
  } catch (error) {
    return finding(
      'fault',
      'state folder',
      `cannot write ${folder}: ${messageOf(error)}`,
      'give the user of the daemon write access, or set state_dir',
    )
  }
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  const seen = `${config.state_dir}, ${formatBytes(free)} free`
  if (free < LEAST_DISK_BYTES)
    return finding(
      'warning',
      'state folder',
      seen,
      'free some space; a delta and a checkpoint are written every round',
    )
  return finding('ok', 'state folder', seen)
}

async function identity(config: NodeConfig): Promise<Finding> {
  const folder = statePaths(config.state_dir).identity
  if (!(await exists(folder))) return finding('ok', 'identity', 'none yet, the first start makes one')
  const modes = await Promise.all(
    ['ed25519.seed', 'ml-dsa-87.seed'].map(
      async (name) => (await stat(join(folder, name)).catch(() => null))?.mode,
    ),
  )
  if (modes.includes(undefined))
    return finding(
      'fault',
      'identity',
      `a seed is missing in ${folder}`,
      'restore it from a backup, or remove the folder to become a new peer',
    )
  if (modes.some((mode) => ((mode ?? 0) & 0o077) !== 0))
    return finding(
      'fault',
      'identity',
      `others can read the seeds in ${folder}`,
      `chmod 600 ${folder}/*.seed`,
    )
  return finding('ok', 'identity', folder)
}

async function nearestExisting(path: string): Promise<string> {
  return (await exists(path)) || dirname(path) === path ? path : nearestExisting(dirname(path))
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
