/**
 * Two-digit sums learned by this trainer and by TRL, by turns on one machine: the same checkpoint (that of
 * test/golden/arith), data, LoRA, groups, learning rate, loss and threads. Prints steps a second and mean rewards at
 * equal samples. TRL takes part when TORCH_PYTHON names a Python with torch, transformers, peft and trl. Held-out
 * accuracy is arith-learning.ts's.
 * Usage: node --conditions=gym-source bench/arith-vs-trl.ts [--seeds 0,1,2] [--steps 200] [--threads 2]
 */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { createTrainer } from '@gym-node/gspo'
import { ARITH, TRL_SETTING } from './lib/arith.ts'
import { median } from './lib/format.ts'

/** The curve is cut in so many parts of equal samples. */
const PARTS = 4

const { values: flags } = parseArgs({
  options: {
    seeds: { type: 'string', default: '0,1,2' },
    steps: { type: 'string', default: '200' },
    threads: { type: 'string', default: '2' },
  },
})
const steps = Number(flags.steps)
const threads = Number(flags.threads)
const python = process.env.TORCH_PYTHON
const { group_size: group = 8, prompts_per_step: prompts = 16 } = TRL_SETTING

/** One seed's run; its first step, which loads and compiles, counts for the curve and not for the time. */
interface Run {
  readonly secondsPerStep: number
  /** Mean reward of each step. */
  readonly rewards: readonly number[]
}

const own: Run[] = []
const theirs: Run[] = []
if (python === undefined)
  console.log('TRL left out: set TORCH_PYTHON to a Python that has torch, transformers, peft and trl\n')
for (const seed of flags.seeds.split(',').map(Number)) {
  own.push(await ownRun(seed))
  if (python !== undefined) theirs.push(await trlRun(python, seed))
}

console.log(
  `${steps} steps of ${prompts} prompts x ${group} completions, ${threads} threads, seeds ${flags.seeds}, by turns\n`,
)
const header = Array.from(
  { length: PARTS },
  (_, part) => `reward to ${((part + 1) * steps * prompts * group) / PARTS} completions`,
)
console.log(`| | steps/s | ${header.join(' | ')} |\n|${' --- |'.repeat(PARTS + 2)}`)
for (const [name, runs] of [
  ['this', own],
  ['TRL', theirs],
] as const) {
  if (runs.length === 0) continue
  const rate = median(runs.map(({ secondsPerStep }) => 1 / secondsPerStep))
  const curve = header.map((_, part) => describe(runs.map(({ rewards }) => partMean(rewards, part))))
  console.log(`| ${[name, rate.toFixed(2), ...curve].join(' | ')} |`)
}
if (theirs.length > 0) {
  const ratios = own.map(({ secondsPerStep }, run) => (theirs[run]?.secondsPerStep ?? NaN) / secondsPerStep)
  console.log(
    `\nthis trainer's steps a second are ${median(ratios).toFixed(2)} times TRL's: the median of the seeds' ratios ${ratios.map((ratio) => ratio.toFixed(2)).join(', ')}`,
  )
}

async function ownRun(seed: number): Promise<Run> {
  const trainer = await createTrainer({
    ...TRL_SETTING,
    seed,
    adapter_seed: seed,
    threads,
    engine: 'onnx-cpu',
  })
  const rewards: number[] = []
  let start = 0
  for (let step = 0; step < steps; step++) {
    if (step === 1) start = performance.now()
    rewards.push((await trainer.step()).stats.rewardMean)
  }
  const secondsPerStep = (performance.now() - start) / 1000 / (steps - 1)
  await trainer.close()
  return { secondsPerStep, rewards }
}

async function trlRun(interpreter: string, seed: number): Promise<Run> {
  const script = fileURLToPath(new URL('./step-trl.py', import.meta.url))
  const sizes = ['--group', group, '--prompts-per-step', prompts, '--completion', 6, '--lora-r', 16]
  const setting = ['--lr', 5e-4, '--reward', 'exact', '--no-force-length', '--data', ARITH.train]
  const args = [
    script,
    '--model',
    ARITH.trlModel,
    ...sizes,
    ...setting,
    '--steps',
    steps,
    '--threads',
    threads,
  ]
  const { stdout } = await promisify(execFile)(interpreter, [...args, '--seed', seed].map(String), {
    maxBuffer: 1 << 24,
  })
  const report = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as {
    seconds_per_step: number
    reward: number[]
  }
  return { secondsPerStep: report.seconds_per_step, rewards: report.reward }
}

function partMean(rewards: readonly number[], part: number): number {
  const cut = rewards.slice((part * rewards.length) / PARTS, ((part + 1) * rewards.length) / PARTS)
  return cut.reduce((sum, reward) => sum + reward, 0) / cut.length
}

/** Mean and, of several, deviation (n - 1). */
function describe(values: readonly number[]): string {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  if (values.length < 2) return mean.toFixed(3)
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return `${mean.toFixed(3)} +- ${Math.sqrt(squares / (values.length - 1)).toFixed(3)}`
}
