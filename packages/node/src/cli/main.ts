/** The command line: the program with its commands, and the rule that every error is one line and an exit code. */
import { Command, CommanderError } from 'commander'
import { EXIT_CODES } from '../exit-codes.ts'
import { buildLine } from '../version.ts'
import { benchCommand } from './bench.ts'
import { completionCommand } from './completion.ts'
import { deltaCommand } from './delta.ts'
import { doctorCommand } from './doctor.ts'
import { initCommand } from './init.ts'
import { errorLine, presentError } from './present.ts'
import { relayCommand } from './relay.ts'
import { ringCommand } from './ring.ts'
import { serviceCommand } from './service.ts'
import { sftCommand } from './sft.ts'
import type { Outcome } from './outcome.ts'
import { startCommand } from './start.ts'
import { statusCommand } from './status.ts'
import { swarmKeyCommand } from './swarm-key.ts'
import { watchCommands } from './watch.ts'

const EXAMPLES = `
Examples:
  gym-node ring --nodes 3                   three daemons on this machine train the demo model (2 minutes)
  gym-node init                             write a commented gym.yaml and this node's identity
  gym-node start --config gym.yaml          run one daemon in the foreground, as a service would
  gym-node start --set train.group_size=4   every key of gym.yaml is also a flag, and a variable: GYM_TRAIN_GROUP_SIZE=4
  gym-node status                           what the daemon of ./gym.yaml is doing, and why
  gym-node delta verify round-7.delta       check the hash and both signatures of a contribution

Exit codes:
${Object.values(EXIT_CODES)
  .map(({ code, meaning }) => `  ${code}  ${meaning}`)
  .join('\n')}
`

/** The program; `outcome` receives exit codes of commands that end without an error. */
export function buildProgram(outcome: Outcome): Command {
  const program = new Command('gym-node')
    .description(
      'Peer-to-peer daemons that train a language model together: GSPO, LoRA, post-quantum ring all-reduce, signed deltas.',
    )
    .version(buildLine(), '-V, --version', 'print version, build and platform')
    .option('--debug', 'print the stack of an error')
    .addHelpText('after', EXAMPLES)
    .showSuggestionAfterError(true)
    .enablePositionalOptions()
  const commands = [
    ringCommand(),
    startCommand(),
    initCommand(),
    statusCommand(),
    ...watchCommands(),
    deltaCommand(outcome),
    doctorCommand(outcome),
    serviceCommand(),
    relayCommand(),
    swarmKeyCommand(),
    sftCommand(),
    benchCommand(),
    completionCommand(() => program),
  ]
  for (const command of commands) program.addCommand(command)
  makeQuiet(program)
  return program
}

/** Runs the command line with `args` (without node and script) and resolves to its exit code; never rejects. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  const outcome: Outcome = { exitCode: EXIT_CODES.ok.code }
  const program = buildProgram(outcome)
  try {
    await program.parseAsync(args, { from: 'user' })
    return outcome.exitCode
  } catch (error) {
    if (error instanceof CommanderError) return endOfUsage(error)
    const debug = program.opts<{ debug?: boolean }>().debug === true || process.env['GYM_DEBUG'] === '1'
    const presented = presentError(error)
    process.stderr.write(`${errorLine(presented)}\n`)
    if (debug && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`)
    return presented.exitCode
  }
}

/** Commander ends by throwing; --help and --version are no errors. */
function endOfUsage(error: CommanderError): number {
  if (error.exitCode === 0) return EXIT_CODES.ok.code
  if (error.code !== 'commander.help') {
    const message = error.message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' ')
    process.stderr.write(`error USAGE: ${message} (see \`gym-node --help\`)\n`)
  }
  return EXIT_CODES.usage.code
}

/** Makes commander throw instead of exiting and leaves the one error line to `endOfUsage`, in all commands. */
function makeQuiet(command: Command): void {
  command.exitOverride().configureOutput({ outputError: () => undefined })
  command.commands.forEach(makeQuiet)
}
