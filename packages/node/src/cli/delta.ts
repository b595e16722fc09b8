/** `gym-node delta`: looks into delta files, checks them, and turns them into what other programs read. */
import { Command, Option } from 'commander'
import type { QualityFlags } from '../delta-commands/quality.ts'
import type { ReplayFlags } from '../delta-commands/replay.ts'
import { EXIT_CODES } from '../exit-codes.ts'
import { listenForStop } from '../signals.ts'
import { addDeltaTools } from './delta-tools.ts'
import type { Outcome } from './outcome.ts'

const HELP = `
Examples:
  gym-node delta inspect round-7.delta
  gym-node delta verify deltas/*.delta
  gym-node delta export round-7.delta --base round-7.state --out adapter/
  gym-node delta merge --model ./qwen --adapter adapter/ --out ./qwen-tuned
  gym-node delta replay round-7.delta --trace round-7.trace --base round-7.state --config gym.yaml
`

/** The command with its subcommands. */
export function deltaCommand(outcome: Outcome): Command {
  const delta = new Command('delta')
    .description('look into delta files, check them, turn them into adapters')
    .addHelpText('after', HELP)
  const finish = ({ ok, text }: { ok: boolean; text: string }): void => {
    process.stdout.write(text)
    if (!ok) outcome.exitCode = EXIT_CODES.check_failed.code
  }
  delta
    .command('inspect')
    .description('print the metadata and the tensors of a delta file; proves nothing')
    .argument('<file>', 'delta file')
    .option('--json', 'print JSON')
    .action(async (file: string, flags: { json?: boolean }) => {
      const { inspectDelta } = await import('../delta-commands/inspect.ts')
      process.stdout.write(await inspectDelta(file, flags.json === true))
    })
  delta
    .command('verify')
    .description('check the hash, both signatures and the key binding; exit code 3 when a check fails')
    .argument('<file...>', 'delta files')
    .option('--json', 'print JSON, one object a line')
    .action(async (files: string[], flags: { json?: boolean }) => {
      const { verifyDeltaFile } = await import('../delta-commands/verify.ts')
      for (const file of files) finish(await verifyDeltaFile(file, flags.json === true))
    })
  delta
    .command('replay')
    .description('recompute a delta from its trace and check every claim; exit code 3 when it is rejected')
    .argument('<file>', 'delta file')
    .addOption(new Option('--trace <file>', "the round's trace").makeOptionMandatory())
    .addOption(new Option('--base <file>', "the trainer's state at the round's start").makeOptionMandatory())
    .option('-c, --config <file>', "the job's configuration")
    .option('--model <folder>', "this machine's copy of the model")
    .option('--data <file...>', "this machine's copy of the data set")
    .option('--residual <file>', 'what a lossy delta had left over from the round before')
    .option('--residual-after <file>', 'what it leaves over')
    .option('--previous <file>', "the worker's delta of the round before, which the residual must come from")
    .option('--round <n>', 'round that the delta must be of')
    .option('--worker <peer>', 'peer id that the delta must be of')
    .option('--base-sha3 <hex>', 'SHA3-256 of the adapter that the ring agreed on before the round')
    .option('--strict', 'demand a bit-identical delta')
    .option('--json', 'print JSON')
    .action(async (file: string, flags: ReplayFlags) => {
      const { replayCommand } = await import('../delta-commands/replay.ts')
      finish(await untilStopped((signal) => replayCommand(file, flags, signal)))
    })
  delta
    .command('quality')
    .description(
      'compare the deltas of one round, and try them on a held-out set; exit code 3 when one is rejected',
    )
    .argument('<file...>', 'delta files of one round')
    .option('-c, --config <file>', "the job's configuration: its thresholds, model and length of completions")
    .option('--held-out <file>', 'held-out JSONL; needs --base, and --config or --model')
    .option('--base <path>', 'adapter that the deltas start from: a PEFT folder or a state file')
    .option('--model <folder>', 'Hugging Face model folder')
    .option('--json', 'print JSON, one object a line')
    .action(async (files: string[], flags: QualityFlags) => {
      const { qualityCommand } = await import('../delta-commands/quality.ts')
      finish(await untilStopped((signal) => qualityCommand(files, flags, signal)))
    })
  addDeltaTools(delta, outcome)
  return delta
}

/** Runs what an engine does with Ctrl+C cutting it short. */
async function untilStopped<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const signals = listenForStop(() => undefined)
  try {
    return await work(signals.signal)
  } finally {
    signals.release()
  }
}
