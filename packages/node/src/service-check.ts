/** What would keep the service of a unit from starting, or its operator from finding it: looked at when it is installed. */
import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { loadConfig } from './config/load.ts'
import { messageOf } from './errors.ts'
import { SERVICE_STATE_DIR } from './service-unit.ts'

const READ_BY_ALL = 0o004
const ENTER_BY_ALL = 0o001

/** One line a finding, none when all is well. `command` is what the unit runs. Changes nothing. */
export async function checkService(command: readonly string[], config: string): Promise<string[]> {
  const found = await Promise.all([...command, config].map(whyUnreadable))
  const settings = await loadConfig({ file: config, env: {}, flags: new Map(), cwd: dirname(config) }).catch(
    (error: unknown) => messageOf(error),
  )
  if (typeof settings === 'string') return [...present(found), settings]
  const { state_dir: stateDir, train } = settings.config
  const inputs = await Promise.all([train.model, ...[train.dataset].flat()].map(whyUnreadable))
  const elsewhere =
    stateDir === SERVICE_STATE_DIR
      ? null
      : `${config} has state_dir ${stateDir}, the service uses ${SERVICE_STATE_DIR}: set state_dir to that, so that status and doctor find it, and move an identity that shall stay there before the first start`
  return present([...found, ...inputs, elsewhere])
}

/** Why a user without rights cannot read a file or folder; null when one can. */
async function whyUnreadable(path: string): Promise<string | null> {
  for (let at = dirname(path); at !== dirname(at); at = dirname(at)) {
    const folder = await stat(at).catch(() => null) // what is not there is told of below
    if (folder !== null && (folder.mode & ENTER_BY_ALL) === 0)
      return `${at} is closed to the service's user, who needs ${path}: chmod o+x ${at}, or move it`
  }
  const found = await stat(path).catch((error: unknown) => messageOf(error))
  if (typeof found === 'string') return `${path}: ${found}`
  return (found.mode & READ_BY_ALL) === 0
    ? `${path} cannot be read by the service's user: chmod o+r ${path}`
    : null
}

function present(lines: readonly (string | null)[]): string[] {
  return lines.filter((line) => line !== null)
}
