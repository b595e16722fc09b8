/**
 * One training step on every engine that this machine has, side by side: processor seconds, and how far the adapters
 * are from onnx-cpu's after the same steps.
 * usage: node --conditions=gym-source bench/engines.ts [--model DIR --data FILE] [--engines onnx-cpu,tfjs] [--steps N]
 * Engines take turns step by step. Seconds are this process's user and system time on one thread, which other load
 * disturbs less than the clock; a GPU's own time is not in them.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createTrainer, ENGINE_NAMES, GspoError, type EngineName, type Trainer } from '@gym-node/gspo'
import { median } from './lib/format.ts'

const demo = join(import.meta.dirname, '../packages/node/demo/arith-model')
const { values } = parseArgs({
  options: {
    model: { type: 'string', default: demo },
    data: { type: 'string', default: join(demo, 'train.jsonl') },
    engines: { type: 'string', default: 'onnx-cpu,onnx-webgpu,tfjs' },
    steps: { type: 'string', default: '9' },
  },
})

interface Runner {
  readonly engine: EngineName
  readonly trainer: Trainer
  readonly seconds: number[]
}

const runners: Runner[] = []
for (const engine of values.engines.split(',').map(named)) {
  try {
    const trainer = await createTrainer({
      model: values.model,
      dataset: values.data,
      engine,
      threads: 1,
      group_size: 8,
      prompts_per_step: 2,
      max_completion_length: 6,
      learning_rate: 1e-5,
      // Rewards with variance whatever the text, so that every step has gradients to compute.
      rewards: [{ name: 'regex', pattern: '[0-4]\\D*$' }],
    })
    await trainer.step() // compiles every graph
    runners.push({ engine, trainer, seconds: [] })
  } catch (error) {
    if (!(error instanceof GspoError) || error.code !== 'ENGINE_UNAVAILABLE') throw error
    console.log(`${engine} is left out: ${error.message}`)
  }
}

for (let step = 0; step < Number(values.steps); step++)
  for (const { trainer, seconds } of runners) {
    const before = process.cpuUsage()
    await trainer.step()
    const { user, system } = process.cpuUsage(before)
    seconds.push((user + system) / 1e6)
  }

const [reference] = runners
const adapter = await reference?.trainer.readAdapter()
for (const { engine, trainer, seconds } of runners) {
  const own = await trainer.readAdapter()
  const ratios = seconds.map((value, step) => value / (reference?.seconds[step] ?? NaN))
  console.log(
    JSON.stringify({
      engine,
      what: trainer.info.engineNote.text.split(':')[0],
      seconds_per_step: round(median(seconds)),
      times_first: round(median(ratios)),
      adapter_distance: round(
        own.reduce((most, x, i) => Math.max(most, Math.abs(x - (adapter?.[i] ?? NaN))), 0),
      ),
    }),
  )
  await trainer.close()
}

function named(text: string): EngineName {
  const engine = ENGINE_NAMES.find((name) => name === text)
  if (engine === undefined) throw new Error(`--engines has ${text}, known: ${ENGINE_NAMES.join(', ')}`)
  return engine
}

function round(value: number): number {
  return Number(value.toPrecision(3))
}
