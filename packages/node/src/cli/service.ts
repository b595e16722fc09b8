/** `gym-node service`: the systemd unit of the daemon. */
import { mkdir, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { errnoOf, NodeError } from '../errors.ts'
import { checkService } from '../service-check.ts'
import { serviceUnit } from '../service-unit.ts'
import { asStateError, writeFileDurably } from '../state/atomic.ts'

const UNIT_NAME = 'gym-node.service'
const ENTRY = fileURLToPath(new URL('../../bin/gym-node.js', import.meta.url))

/** The command with its subcommands. */
export function serviceCommand(): Command {
  const service = new Command('service').description('run the daemon under systemd')
  const addConfig = (command: Command): Command =>
    command.option('-c, --config <file>', 'configuration file', '/etc/gym-node/gym.yaml')
  const command = [process.execPath, ENTRY]
  const unitFor = (config: string): string => serviceUnit({ command, config: resolve(config) })
  addConfig(service.command('print').description('print the unit')).action((flags: { config: string }) => {
    process.stdout.write(unitFor(flags.config))
  })
  addConfig(service.command('install').description('write the unit; replaces an older one only with --force'))
    .option('--dir <folder>', 'folder of units', '/etc/systemd/system')
    .option('--force', 'replace a unit that differs')
    .action(async (flags: { config: string; dir: string; force?: boolean }) => {
      const path = join(resolve(flags.dir), UNIT_NAME)
      const unit = unitFor(flags.config)
      const existing = await readExisting(path)
      if (existing !== null && existing !== unit && flags.force !== true) {
        throw new NodeError('OUTPUT_EXISTS', `${path} is there and differs; --force replaces it`)
      }
      await mkdir(resolve(flags.dir), { recursive: true }).catch((error: unknown) => {
        throw asStateError(error, flags.dir)
      })
      await writeFileDurably(path, unit, 0o644)
      for (const line of await checkService(command, resolve(flags.config)))
        process.stderr.write(`warn  ${line}\n`)
      process.stdout.write(
        `wrote ${path}\nnext  systemctl daemon-reload && systemctl enable --now gym-node\nlogs  journalctl -u gym-node -f\n`,
      )
    })
  return service
}

async function readExisting(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw asStateError(error, path)
  }
}
