/**
 * Several nodes in one process: each samples its own share, takes `interval` local steps, and all adapters move to the
 * mean of their deltas, as a ring round does. Prints held-out accuracy over completions, to choose hyperparameters.
 * Usage: node --conditions=gym-source bench/local-sgd.ts --nodes 3 --interval 4 --rounds 53 --prompts 5 --lr 5e-4
 */
import { parseArgs } from 'node:util'
import type { Trainer } from '@gym-node/gspo'
import { createTrainer } from '@gym-node/gspo'
import { createExaminer, TRL_SETTING } from './lib/arith.ts'

const { values: options } = parseArgs({
  options: {
    nodes: { type: 'string', default: '3' },
    interval: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '53' },
    prompts: { type: 'string', default: '5' },
    minibatches: { type: 'string', default: '1' },
    lr: { type: 'string', default: '5e-4' },
    seed: { type: 'string', default: '0' },
    beta2: { type: 'string', default: '0.999' },
    schedule: { type: 'string', default: 'constant' },
    warmup: { type: 'string', default: '0' },
  },
})
const nodes = Number(options.nodes)
const rounds = Number(options.rounds)
const updates = rounds * Number(options.interval) * Number(options.minibatches)
const schedule =
  options.schedule === 'cosine' || options.schedule === 'linear'
    ? ({
        lr_scheduler_type: options.schedule,
        warmup_steps: Number(options.warmup),
        max_steps: updates,
      } as const)
    : ({ lr_scheduler_type: 'constant' } as const)

const examiner = await createExaminer()
const trainers = await Promise.all(
  Array.from({ length: nodes }, (_, node) =>
    createTrainer({
      ...TRL_SETTING,
      prompts_per_step: Number(options.prompts),
      steps_per_generation: Number(options.minibatches),
      learning_rate: Number(options.lr),
      adam_beta2: Number(options.beta2),
      ...schedule,
      // Nodes share the first adapter; everything that is drawn differs.
      adapter_seed: Number(options.seed),
      seed: 1000 * Number(options.seed) + node,
    }),
  ),
)
const started = performance.now()
let completions = 0
for (let round = 1; round <= rounds; round++) {
  let reward = 0
  for (const trainer of trainers)
    for (let step = 0; step < Number(options.interval); step++) {
      const { stats } = await trainer.step()
      completions += stats.completions
      reward += stats.rewardMean / (nodes * Number(options.interval))
    }
  const mean = await averageAdapters(trainers)
  if (round % Math.ceil(rounds / 6) !== 0 && round !== rounds) continue
  const accuracy = await examiner.expectedAccuracy(mean)
  console.log(
    `round ${round}, ${completions} completions, reward ${reward.toFixed(3)}, held-out accuracy ${accuracy.toFixed(4)}, ${((performance.now() - started) / 1000).toFixed(1)} s`,
  )
}
for (const trainer of trainers) await trainer.close()
await examiner.close()

/** Moves every trainer to the mean adapter: with a common start, the mean of adapters is the start plus the mean delta. */
async function averageAdapters(all: readonly Trainer[]): Promise<Float32Array> {
  const adapters = await Promise.all(all.map((trainer) => trainer.readAdapter()))
  const mean = new Float32Array(adapters[0]?.length ?? 0)
  for (let i = 0; i < mean.length; i++) {
    let sum = 0
    for (const adapter of adapters) sum += adapter[i] ?? 0
    mean[i] = sum / adapters.length
  }
  await Promise.all(all.map((trainer) => trainer.writeAdapter(mean)))
  return mean
}
