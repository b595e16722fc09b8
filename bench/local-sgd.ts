/**
 * Several nodes in one process: each samples its own share, takes `interval` local steps, and all adapters move to the
 * mean of their deltas, as a ring round does; with --overlap one round late, as train.overlap does. Prints held-out
 * accuracy over completions, to choose hyperparameters.
 * Usage: node --conditions=gym-source bench/local-sgd.ts --nodes 3 --interval 4 --rounds 53 --prompts 5 --lr 5e-4 [--overlap]
 * [--model FOLDER]
 */
import { parseArgs } from 'node:util'
import { createTrainer } from '@gym-node/gspo'
import { ARITH, createExaminer, TRL_SETTING } from './lib/arith.ts'

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: ARITH.model },
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
    overlap: { type: 'boolean', default: false },
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

const examiner = await createExaminer(options.model)
const trainers = await Promise.all(
  Array.from({ length: nodes }, (_, node) =>
    createTrainer({
      ...TRL_SETTING,
      model: options.model,
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
/** The shared adapter, and the mean delta that waits for its round with --overlap. */
let shared = (await trainers[0]?.readAdapter()) ?? new Float32Array(0)
let late: Float32Array | null = null
for (let round = 1; round <= rounds; round++) {
  let reward = 0
  for (const trainer of trainers)
    for (let step = 0; step < Number(options.interval); step++) {
      const { stats } = await trainer.step()
      completions += stats.completions
      reward += stats.rewardMean / (nodes * Number(options.interval))
    }
  const delta = meanDelta(await Promise.all(trainers.map((trainer) => trainer.readAdapter())), shared)
  // One round late: the steps of the next round start before this round's delta is there.
  const applied = options.overlap ? late : delta
  late = delta
  if (applied !== null) shared = shared.map((value, i) => value + (applied[i] ?? 0))
  await Promise.all(trainers.map((trainer) => trainer.writeAdapter(shared)))
  if (round % Math.ceil(rounds / 6) !== 0 && round !== rounds) continue
  const accuracy = await examiner.expectedAccuracy(shared)
  console.log(
    `round ${round}, ${completions} completions, reward ${reward.toFixed(3)}, held-out accuracy ${accuracy.toFixed(4)}, ${((performance.now() - started) / 1000).toFixed(1)} s`,
  )
}
for (const trainer of trainers) await trainer.close()
await examiner.close()

/** What the adapters have moved from `base`, on average. */
function meanDelta(adapters: readonly Float32Array[], base: Float32Array): Float32Array {
  return base.map((from, i) => {
    let sum = 0
    for (const adapter of adapters) sum += (adapter[i] ?? 0) - from
    return sum / adapters.length
  })
}
