/** `gym-node init`: a commented configuration and this node's identity. Overwrites nothing. */
import { mkdir, open } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { Command } from 'commander'
import { CONFIG_FILE_NAME, loadStateDir, pathFrom } from '../config/load.ts'
import { configTemplate } from '../config/template.ts'
import { errnoOf, NodeError } from '../errors.ts'
import { SERVICE_STATE_DIR } from '../service-unit.ts'
import { asStateError } from '../state/atomic.ts'
import { openStateFolder } from '../state/folder.ts'
import { loadOrCreateIdentity } from '../state/identity-files.ts'

/** The command. */
export function initCommand(): Command {
  return new Command('init')
    .description('write a commented gym.yaml and the identity of this node; overwrites nothing')
    .argument('[folder]', 'folder to write to', '.')
    .option('--model <folder>', 'Hugging Face model folder to put into the file')
    .option('--dataset <file>', 'JSONL data set to put into the file')
    .option(
      '--state-dir <folder>',
      `state folder to put into the file; for a service ${SERVICE_STATE_DIR} (default: gym-state beside the file)`,
    )
    .action(async (folder: string, flags: { model?: string; dataset?: string; stateDir?: string }) => {
      const at = resolve(folder)
      const file = join(at, CONFIG_FILE_NAME)
      await writeNewFile(
        at,
        file,
        // Paths in the file are relative to it, these to where the command was called.
        configTemplate({
          model: absolute(flags.model, '--model'),
          dataset: absolute(flags.dataset, '--dataset'),
          stateDir: absolute(flags.stateDir, '--state-dir'),
        }),
      )
      const missing = (['model', 'dataset'] as const)
        .filter((key) => flags[key] === undefined)
        .map((key) => `train.${key}`)
      const stateDir = await loadStateDir({ file, env: process.env, flags: new Map(), cwd: at })
      const state = await openStateFolder(stateDir)
      try {
        const { identity, created } = await loadOrCreateIdentity(state.paths.identity)
        const todo = missing.length === 0 ? [] : [`set ${missing.join(' and ')} in ${CONFIG_FILE_NAME}, then`]
        const next = [
          ...todo,
          ...['doctor', 'start'].map((name) => `gym-node ${name} --config ${quoted(file)}`),
        ]
        process.stdout.write(
          `wrote    ${file}\n${created ? 'created ' : 'kept    '} ${state.paths.identity} (secret: back it up)\n` +
            `peer id  ${identity.peerId}\nnext     ${next.join('\n         ')}\n`,
        )
      } finally {
        state.close()
      }
    })
}

function absolute(path: string | undefined, flag: string): string | null {
  return path === undefined ? null : pathFrom(path, process.cwd(), flag, 'command line')
}

async function writeNewFile(folder: string, path: string, text: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true })
    const file = await open(path, 'wx', 0o644)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
  } catch (error) {
    if (errnoOf(error) === 'EEXIST')
      throw new NodeError('CONFIG_EXISTS', `${path} is there already`, { cause: error })
    throw asStateError(error, path)
  }
}

/** A path as a shell takes it. */
function quoted(path: string): string {
  return /^[\w/.@:+,=-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`
}
