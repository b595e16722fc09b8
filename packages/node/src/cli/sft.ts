/** `gym-node sft`: supervised training from random weights, to where reinforcement learning has something to do. */
import type { SftProgress } from '@gym-node/gspo'
import { Command } from 'commander'
import { NodeError } from '../errors.ts'

interface SftFlags {
  readonly model: string
  readonly dataset: readonly string[]
  readonly evalDataset?: string
  readonly out: string
  readonly checkpoint?: string
  readonly maxSteps?: string
  readonly evalSteps?: string
  readonly batchSize?: string
  readonly learningRate?: string
  readonly stopAtAccuracy?: string
  readonly lrDropAtAccuracy?: string
  readonly lrDropFactor?: string
  readonly seed?: string
  readonly threads?: string
  readonly json?: boolean
}

/** The command. */
export function sftCommand(): Command {
  return new Command('sft')
    .description('train a whole small model on prompts and answers, from random weights')
    .requiredOption('--model <folder>', 'folder with config.json and tokenizer; weights in it are not used')
    .requiredOption('--dataset <file...>', 'JSON lines with prompt and answer')
    .requiredOption('--out <folder>', 'model folder to write')
    .option('--checkpoint <folder>', 'keep the state there; the same command goes on from it')
    .option('--eval-dataset <file>', 'JSON lines whose accuracy is watched')
    .option('--max-steps <n>', 'most updates')
    .option('--eval-steps <n>', 'updates between two evaluations, each of which writes --out (40)')
    .option('--batch-size <n>', 'rows of one update')
    .option('--learning-rate <x>', 'peak learning rate')
    .option('--stop-at-accuracy <x>', 'end when sampling is right this often on --eval-dataset, 0 to 1')
    .option('--lr-drop-at-accuracy <x>', 'lower the learning rate from this accuracy on, to settle')
    .option('--lr-drop-factor <x>', 'what the learning rate is then multiplied by (0.15)')
    .option('--seed <n>', 'draws first weights and data order')
    .option('--threads <n>', 'threads of the engine')
    .option('--json', 'print JSON lines')
    .action(async (flags: SftFlags) => {
      const { resolveSftConfig, runSft } = await import('@gym-node/gspo')
      const config = resolveSftConfig({
        model: flags.model,
        dataset: [...flags.dataset],
        output_dir: flags.out,
        ...(flags.checkpoint === undefined ? {} : { checkpoint_dir: flags.checkpoint }),
        ...(flags.evalDataset === undefined ? {} : { eval_dataset: flags.evalDataset }),
        ...number('max_steps', '--max-steps', flags.maxSteps),
        ...number('eval_steps', '--eval-steps', flags.evalSteps),
        ...number('batch_size', '--batch-size', flags.batchSize),
        ...number('learning_rate', '--learning-rate', flags.learningRate),
        ...number('stop_at_accuracy', '--stop-at-accuracy', flags.stopAtAccuracy),
        ...number('lr_drop_at_accuracy', '--lr-drop-at-accuracy', flags.lrDropAtAccuracy),
        ...number('lr_drop_factor', '--lr-drop-factor', flags.lrDropFactor),
        ...number('seed', '--seed', flags.seed),
        ...number('threads', '--threads', flags.threads),
      })
      const last = await runSft(config, {
        onProgress: (progress) =>
          process.stdout.write(`${flags.json === true ? JSON.stringify(progress) : line(progress)}\n`),
      })
      if (flags.json !== true) process.stdout.write(`model   ${config.output_dir}, ${last.step} updates\n`)
    })
}

function line({ step, loss, accuracy, seconds }: SftProgress): string {
  const right = accuracy === null ? '' : `  sampled ${(100 * accuracy).toFixed(1)} % right`
  return `update ${step}  loss ${loss.toFixed(4)}${right}  ${seconds.toFixed(0)} s`
}

function number(key: string, flag: string, text: string | undefined): Record<string, number> {
  if (text === undefined) return {}
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value))
    throw new NodeError('USAGE', `${flag} is "${text}", expected a number`)
  return { [key]: value }
}
