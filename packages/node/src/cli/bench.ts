/** `gym-node bench`: what this machine does with a model, as one line of JSON for scripts and issue reports. */
import { availableParallelism } from 'node:os'
import { benchStep } from '@gym-node/gspo'
import { Command } from 'commander'
import { NodeError } from '../errors.ts'

interface BenchFlags {
  readonly model: string
  readonly group: string
  readonly prompt: string
  readonly completion: string
  readonly steps: string
  readonly rank: string
  readonly threads?: string
  readonly use4bit?: boolean
}

/** The command with its subcommand. */
export function benchCommand(): Command {
  const bench = new Command('bench').description('measure this machine')
  bench
    .command('step')
    .description('time a training step: generation, forward and backward, optimiser; prints JSON')
    .requiredOption('--model <folder>', 'Hugging Face model folder')
    .option('--group <n>', 'completions of the one prompt', '8')
    .option('--prompt <n>', 'tokens of the prompt', '128')
    .option('--completion <n>', 'tokens of a completion', '128')
    .option('--steps <n>', 'steps that count', '3')
    .option('--rank <n>', 'rank of the adapter', '16')
    .option('--threads <n>', 'threads of the engine (all cores)')
    .option('--use-4bit', 'keep the frozen weights in 4 bits')
    .action(async (flags: BenchFlags) => {
      const report = await benchStep({
        model: flags.model,
        group: whole('--group', flags.group),
        promptLength: whole('--prompt', flags.prompt),
        completion: whole('--completion', flags.completion),
        steps: whole('--steps', flags.steps),
        loraRank: whole('--rank', flags.rank),
        threads: flags.threads === undefined ? availableParallelism() : whole('--threads', flags.threads),
        use4bit: flags.use4bit === true,
      })
      process.stdout.write(`${JSON.stringify(report)}\n`)
    })
  return bench
}

function whole(flag: string, text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1)
    throw new NodeError('USAGE', `${flag} is "${text}", expected a whole number of at least 1`)
  return value
}
