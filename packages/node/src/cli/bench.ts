/** `gym-node bench`: what this machine does with a model or a ring, as one line of JSON for scripts and reports. */
import { availableParallelism } from 'node:os'
import type { EngineName } from '@gym-node/gspo'
import { Command, Option } from 'commander'
import { NodeError } from '../errors.ts'

interface StepFlags {
  readonly model: string
  readonly group: string
  readonly promptLength: string
  readonly completion: string
  readonly steps: string
  readonly loraRank: string
  readonly threads?: string
  readonly use4bit?: boolean
  readonly memoryLimit?: string
  readonly engine: EngineName
}

interface AllReduceFlags {
  readonly nodes: string
  readonly megabytes: string
  readonly wire: 'f32' | 'bf16' | 'int8'
  readonly carrier: 'direct' | 'stream'
  readonly integrity: 'sealed' | 'signed'
  readonly runs: string
}

/** The command with its subcommands. */
export function benchCommand(): Command {
  return new Command('bench')
    .description('measure this machine; each prints one line of JSON')
    .addCommand(stepCommand())
    .addCommand(allReduceCommand())
}

function stepCommand(): Command {
  return jsonCommand('step')
    .description('time a training step: generation, forward and backward, optimiser')
    .requiredOption('--model <folder>', 'Hugging Face model folder')
    .option('--group <n>', 'completions of the one prompt', '8')
    .option('--prompt-length <n>', 'tokens of the prompt', '64')
    .option('--completion <n>', 'tokens of a completion', '64')
    .option('--steps <n>', 'steps that count', '5')
    .option('--lora-rank <n>', 'rank of the adapter', '16')
    .option('--threads <n>', 'threads of the engine (all cores)')
    .option('--use-4bit', 'keep the frozen weights in 4 bits')
    .option('--memory-limit <mb>', 'memory of the engine, MB of 2^20 bytes')
    .addOption(
      new Option('--engine <name>', 'what computes')
        .choices(['auto', 'onnx-cpu', 'onnx-webgpu', 'tfjs'] satisfies EngineName[])
        .default('auto'),
    )
    .action(async (flags: StepFlags) => {
      const { benchStep } = await import('@gym-node/gspo')
      print(
        await benchStep({
          model: flags.model,
          group: whole('--group', flags.group),
          promptLength: whole('--prompt-length', flags.promptLength),
          completion: whole('--completion', flags.completion),
          steps: whole('--steps', flags.steps),
          loraRank: whole('--lora-rank', flags.loraRank),
          threads: flags.threads === undefined ? availableParallelism() : whole('--threads', flags.threads),
          use4bit: flags.use4bit === true,
          ...(flags.memoryLimit === undefined
            ? {}
            : { memoryLimitMb: whole('--memory-limit', flags.memoryLimit) }),
          engine: flags.engine,
        }),
      )
    })
}

function allReduceCommand(): Command {
  return jsonCommand('all-reduce')
    .description('time the ring alone: N processes on this machine reduce a vector over sealed links')
    .option('--nodes <n>', 'processes', '2')
    .option('--megabytes <n>', 'size of the float32 vector, MiB', '64')
    .addOption(
      new Option('--wire <type>', 'number format on the network')
        .choices(['f32', 'bf16', 'int8'])
        .default('f32'),
    )
    .addOption(
      new Option('--carrier <kind>', 'what bulk data travels on')
        .choices(['direct', 'stream'])
        .default('direct'),
    )
    .addOption(
      new Option('--integrity <level>', 'what is authenticated')
        .choices(['sealed', 'signed'])
        .default('sealed'),
    )
    .option('--runs <n>', 'rounds that count', '5')
    .action(async (flags: AllReduceFlags) => {
      const { benchAllReduce } = await import('@gym-node/ring')
      print(
        await benchAllReduce({
          nodes: whole('--nodes', flags.nodes),
          megabytes: whole('--megabytes', flags.megabytes),
          wire: flags.wire,
          carrier: flags.carrier,
          integrity: flags.integrity,
          runs: whole('--runs', flags.runs),
        }),
      )
    })
}

/** JSON is all a benchmark prints; the flag is there because every other command has it. */
function jsonCommand(name: string): Command {
  return new Command(name).option('--json', 'one line of JSON (always so)')
}

function print(report: object): void {
  process.stdout.write(`${JSON.stringify(report)}\n`)
}

function whole(flag: string, text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1)
    throw new NodeError('USAGE', `${flag} is "${text}", expected a whole number of at least 1`)
  return value
}
