/**
 * A model like the demo's from random weights, in this project alone: supervised training on two-digit sums until
 * sampling is right about one time in three, which is where reinforcement learning has something to do.
 * Usage: node --conditions=gym-source bench/make-arith-model.ts OUTPUT_DIR | --check
 * `--check` trains afresh and compares with the run recorded in make-arith-model.json: bit by bit on the engine version
 * and kind of processor of that run, with any number of threads, and elsewhere by the held-out accuracy.
 */
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { runSft } from '@gym-node/gspo'
import { ARITH } from './lib/arith.ts'
import recorded from './make-arith-model.json' with { type: 'json' }

const STOP_AT = 0.335
/** Between two evaluations of the steepest part of the curve accuracy has risen by up to 0.05. */
const HIGHEST = 0.39

const [target] = process.argv.slice(2)
if (target === undefined) {
  console.error('usage: make-arith-model.ts OUTPUT_DIR | --check')
  process.exit(2)
}
if (target === '--check') await check()
else await make(target)

/** Trains into a folder; resolves to the held-out accuracy. */
async function make(outputDir: string): Promise<number> {
  const started = performance.now()
  const last = await runSft(
    {
      model: ARITH.model,
      dataset: ARITH.train,
      eval_dataset: ARITH.test,
      output_dir: outputDir,
      seed: 0,
      threads: Math.min(2, availableParallelism()),
      max_steps: 600,
      eval_steps: 5,
      batch_size: 256,
      learning_rate: 2e-3,
      lr_scheduler_type: 'constant',
      // As the demo's own training did: below 0.12 the sums are being found, above it they settle.
      lr_drop_at_accuracy: 0.12,
      lr_drop_factor: 0.15,
      stop_at_accuracy: STOP_AT,
    },
    {
      onProgress: ({ step, loss, accuracy, seconds }) =>
        console.log(
          `update ${step}, loss ${loss.toFixed(4)}, sampled accuracy ${accuracy?.toFixed(4)}, ${seconds.toFixed(0)} s`,
        ),
    },
  )
  const seconds = (performance.now() - started) / 1000
  console.log(
    `${outputDir}: ${last.step} updates, held-out sampled accuracy ${last.accuracy?.toFixed(4)}, ${seconds.toFixed(0)} s, sha256 ${await sha256(outputDir)}`,
  )
  return last.accuracy ?? NaN
}

async function check(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gym-arith-'))
  try {
    const accuracy = await make(folder)
    const isSame = (await sha256(folder)) === recorded.sha256
    const here = await processor()
    if (isSame) console.log('the same bits as recorded')
    else if (here === recorded.processor)
      fail(
        `other bits than recorded on ${here}, where they should be the same with onnxruntime-node ${recorded.onnxruntime}`,
      )
    else if (accuracy >= STOP_AT && accuracy <= HIGHEST)
      console.log(
        `other bits, as expected on ${here} (recorded on ${recorded.processor}); the accuracy is in ${STOP_AT} to ${HIGHEST}`,
      )
    else fail(`the accuracy is ${accuracy}, expected ${STOP_AT} to ${HIGHEST} on ${here}`)
  } finally {
    await rm(folder, { recursive: true })
  }
}

function fail(message: string): void {
  console.error(message)
  process.exitCode = 1
}

async function sha256(folder: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(join(folder, 'model.safetensors')))
    .digest('hex')
}

/** What chooses the engine's kernels: the architecture and, on Linux, the widest vectors. */
async function processor(): Promise<string> {
  const flags = await readFile('/proc/cpuinfo', 'utf8').catch(() => '')
  const vectors = ['avx512f', 'avx2'].find((flag) => new RegExp(`\\b${flag}\\b`).test(flags))
  return `${process.arch} ${vectors ?? 'other'}`
}
