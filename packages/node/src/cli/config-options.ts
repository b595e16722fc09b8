/** The flags that name and override the configuration, the same for every command that reads it. */
import { Option, type Command } from 'commander'
import { keyAt, parsePair, parseText, type ConfigSources } from '../config/load.ts'

/** Flags with a name of their own; everything else goes through --set. */
const FLAGS: readonly { readonly flag: string; readonly path: string; readonly help: string }[] = [
  { flag: '--state-dir <folder>', path: 'state_dir', help: 'state folder' },
  { flag: '--job <name>', path: 'job', help: 'name of the common work' },
  { flag: '--listen <multiaddr,...>', path: 'ring.listen', help: 'addresses to listen on' },
  { flag: '--bootstrap <multiaddr,...>', path: 'ring.bootstrap', help: 'peers to begin with' },
  { flag: '--min-members <n>', path: 'ring.min_members', help: 'members the ring needs before it trains' },
  { flag: '--http-port <port>', path: 'http.port', help: 'port of the status server' },
  { flag: '--model <folder>', path: 'train.model', help: 'Hugging Face model folder' },
  { flag: '--dataset <file,...>', path: 'train.dataset', help: 'JSONL files with prompt and answer' },
  { flag: '--rounds <n>', path: 'train.rounds', help: 'stop after this many rounds of the ring' },
  {
    flag: '--log-level <level>',
    path: 'log.level',
    help: 'trace, debug, info, warn, error, fatal or silent',
  },
]

/** Options as commander hands them over. */
export interface ConfigFlags {
  readonly config?: string
  readonly set?: readonly string[]
  readonly [flag: string]: unknown
}

/** Adds --config, --set and the named flags to `command`. */
export function addConfigOptions(command: Command): Command {
  addFolderOptions(command)
  for (const { flag, help, path } of FLAGS)
    if (path !== 'state_dir') command.addOption(new Option(flag, help))
  const collect = (value: string, before: readonly string[] = []): string[] => [...before, value]
  return command.option(
    '--set <key=value>',
    'set any key of the configuration, for example train.group_size=4 (repeatable)',
    collect,
  )
}

/** Adds only what finds a state folder: --config and --state-dir. */
export function addFolderOptions(command: Command): Command {
  return command
    .option('-c, --config <file>', 'configuration file (default: $GYM_CONFIG or ./gym.yaml)')
    .option('--state-dir <folder>', 'state folder')
}

/** What `loadConfig` reads from, with the flags by their dotted path. Throws NodeError on a --set that is none. */
export function configSources(flags: ConfigFlags): ConfigSources {
  const values = new Map<string, unknown>()
  for (const { flag, path } of FLAGS) {
    const text = flags[new Option(flag).attributeName()]
    if (typeof text === 'string') values.set(path, parseText(text, keyAt(path)))
  }
  for (const pair of flags.set ?? []) {
    const [path, value] = parsePair(pair)
    values.set(path, value)
  }
  return { file: flags.config ?? null, env: process.env, flags: values, cwd: process.cwd() }
}
