/**
 * Learning two-digit sums beside TRL: the checkpoint of its recorded runs, their LoRA, groups and learning rate, 25,600
 * completions, with the held-out accuracy at equal samples. Usage: node --conditions=gym-source bench/arith-learning.ts
 * [seeds] [setting] [model] where setting is onpolicy, spg4 or both, and model another folder, which leaves TRL out.
 */
import { createTrainer } from '@gym-node/gspo'
import { ARITH, createExaminer, TRL_SETTING, trlRuns } from './lib/arith.ts'

/** Completions between two evaluations, as in TRL's runs (25 updates of 128). */
const EVALUATE_EVERY = 3200

const SETTINGS = {
  onpolicy: { trl: 'H-onpolicy-s', config: { prompts_per_step: 16, steps_per_generation: 1 }, steps: 200 },
  spg4: { trl: 'H-spg4-s', config: { prompts_per_step: 64, steps_per_generation: 4 }, steps: 50 },
} as const

const [seedsArgument = '3', settingArgument = 'both', model = ARITH.trlModel] = process.argv.slice(2)
const examiner = await createExaminer(model)
const runs = model === ARITH.trlModel ? trlRuns() : {}
for (const [name, setting] of Object.entries(SETTINGS)) {
  if (settingArgument !== 'both' && settingArgument !== name) continue
  const finals: number[] = []
  for (let seed = 0; seed < Number(seedsArgument); seed++) finals.push(await run(name, setting, seed))
  const trl = Object.entries(runs)
    .filter(([key]) => key.startsWith(setting.trl))
    .map(([, { eval: points }]) => points.at(-1)?.test_sampled ?? NaN)
  const beside = trl.length === 0 ? '' : `; TRL ${describe(trl)}`
  console.log(`\n${name}: held-out sampled accuracy ${describe(finals)}${beside}\n`)
}
await examiner.close()

async function run(
  name: string,
  setting: (typeof SETTINGS)[keyof typeof SETTINGS],
  seed: number,
): Promise<number> {
  const trainer = await createTrainer({ ...TRL_SETTING, ...setting.config, model, seed, adapter_seed: seed })
  const started = performance.now()
  const trl = runs[`${setting.trl}${seed}`]
  let completions = 0
  let rewardSum = 0
  let rewardCount = 0
  let accuracy = 0
  console.log(`\n${name}, seed ${seed}\n completions  reward  accuracy  TRL's accuracy  seconds`)
  for (let step = 0; step < setting.steps; step++) {
    const { stats } = await trainer.step()
    completions += stats.completions
    rewardSum += stats.rewardMean
    rewardCount++
    if (completions % EVALUATE_EVERY !== 0 && step !== setting.steps - 1) continue
    const seconds = (performance.now() - started) / 1000
    accuracy = await examiner.expectedAccuracy(await trainer.readAdapter())
    const theirs = trl?.eval.find((point) => point.step === completions / 128)?.test_sampled
    console.log(
      `${String(completions).padStart(12)}  ${(rewardSum / rewardCount).toFixed(3).padStart(6)}  ${accuracy.toFixed(4).padStart(8)}  ${(theirs?.toFixed(4) ?? '-').padStart(14)}  ${seconds.toFixed(1).padStart(7)}`,
    )
    rewardSum = 0
    rewardCount = 0
  }
  const greedy = await trainer.evaluate({ dataset: ARITH.test, mode: 'greedy' })
  const theirs =
    trl === undefined
      ? ''
      : `, TRL ${trl.eval.at(-1)?.test_greedy ?? '-'}; TRL took ${trl.wall_s} s on its machine`
  console.log(`greedy accuracy ${greedy.accuracy.toFixed(3)}${theirs}`)
  await trainer.close()
  return accuracy
}

/** Mean and deviation (n - 1). */
function describe(values: readonly number[]): string {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const deviation = Math.sqrt(
    values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length - 1),
  )
  return `${mean.toFixed(4)} +- ${deviation.toFixed(4)} (n = ${values.length})`
}
