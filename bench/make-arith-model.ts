/**
 * Makes the demo model from nothing: its data, and its weights by supervised training on two-digit sums until sampling
 * is right about one time in three, which is where reinforcement learning has something to do.
 * Usage: node --conditions=gym-source bench/make-arith-model.ts OUTPUT_DIR | --check
 * `--check` makes it afresh and compares every file with the shipped one: bit by bit on the engine version and kind of
 * processor that made it, with any number of threads; elsewhere weights by their held-out accuracy.
 */
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createTrainer, runSft } from '@gym-node/gspo'
import { ARITH, createExaminer, TRL_SETTING } from './lib/arith.ts'
import { arithData } from './lib/arith-data.ts'

/** How the weights come about; the rest is `runSft`'s defaults. packages/gspo/README.md says how it was chosen. */
const RECIPE = {
  seed: 0,
  max_steps: 600,
  eval_steps: 4,
  batch_size: 256,
  learning_rate: 2e-3,
  lr_scheduler_type: 'constant',
  // The sums are found in some 40 updates at the full rate; with 0.15 of it from there on they settle.
  lr_drop_at_accuracy: 0.26,
  lr_drop_factor: 0.15,
  stop_at_accuracy: 0.335,
} as const
/** Where the accuracy ends with other bits: between two evaluations of the steepest part it has risen by up to 0.06. */
const HIGHEST = 0.4
/** Float32 sums in another order change an accuracy, a mean of 1000 probabilities, by far less. */
const SAME_ACCURACY = 1e-4
const LOG = 'training-log.json'

/** What is written beside the weights. */
interface TrainingLog {
  readonly recipe: typeof RECIPE
  /** What decides the bits of the weights besides the recipe. */
  readonly made_with: { readonly processor: string; readonly onnxruntime: string }
  readonly evaluations: readonly { step: number; loss: number; sampled: number | null }[]
  /** Held-out accuracy, greedy, and of sampling at temperature 1 (from the answers' probabilities). */
  readonly sampled: number
  readonly greedy: number
  readonly model_sha256: string
}

const [target] = process.argv.slice(2)
if (target === undefined) {
  console.error('usage: make-arith-model.ts OUTPUT_DIR | --check')
  process.exit(2)
}
if (target === '--check') await check()
else await make(target)

/** Writes data, weights, config, tokenizer and log. */
async function make(folder: string): Promise<TrainingLog> {
  await mkdir(folder, { recursive: true })
  for (const [name, lines] of Object.entries(arithData())) await writeFile(join(folder, name), lines)
  const evaluations: TrainingLog['evaluations'][number][] = []
  const config = {
    ...RECIPE,
    model: ARITH.model,
    dataset: join(folder, 'train.jsonl'),
    eval_dataset: join(folder, 'test.jsonl'),
    output_dir: folder,
    threads: Math.min(2, availableParallelism()),
  }
  await runSft(config, {
    onProgress: ({ step, loss, accuracy, seconds }) => {
      evaluations.push({ step, loss: rounded(loss), sampled: accuracy === null ? null : rounded(accuracy) })
      console.log(
        `update ${step}, loss ${loss.toFixed(4)}, sampled accuracy ${accuracy?.toFixed(4)}, ${seconds.toFixed(0)} s`,
      )
    },
  })
  const log: TrainingLog = {
    recipe: RECIPE,
    made_with: { processor: await processor(), onnxruntime: onnxruntime() },
    evaluations,
    ...(await accuracies(folder)),
    model_sha256: await sha256(join(folder, 'model.safetensors')),
  }
  await writeFile(join(folder, LOG), `${JSON.stringify(log, null, 1)}\n`)
  console.log(
    `${folder}: ${evaluations.at(-1)?.step} updates, held-out accuracy ${log.sampled} sampled, ${log.greedy} greedy, sha256 ${log.model_sha256}`,
  )
  return log
}

async function check(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gym-arith-'))
  try {
    const fresh = await make(folder)
    const shipped = JSON.parse(await readFile(join(ARITH.model, LOG), 'utf8')) as TrainingLog
    for (const name of Object.keys(arithData()))
      if (!(await areEqual(folder, name))) fail(`${name} is not the shipped one`)
    if ((await sha256(join(ARITH.model, 'model.safetensors'))) !== shipped.model_sha256)
      fail(`the shipped weights are not those that ${LOG} is about`)
    if (await areEqual(folder, 'model.safetensors')) {
      if (await areEqual(folder, LOG)) console.log('every shipped file, bit for bit')
      else fail(`the shipped weights bit for bit, but another ${LOG}`)
      return
    }
    const { made_with: here } = fresh
    const { made_with: there } = shipped
    if (here.processor === there.processor && here.onnxruntime === there.onnxruntime)
      fail(`other weights than the shipped ones, where they should be the same: ${JSON.stringify(here)}`)
    const measured = await accuracies(ARITH.model)
    if (Math.abs(measured.sampled - shipped.sampled) > SAME_ACCURACY)
      fail(
        `the shipped weights have accuracy ${measured.sampled} here, ${shipped.sampled} where they were made`,
      )
    if (fresh.sampled < RECIPE.stop_at_accuracy || fresh.sampled > HIGHEST)
      fail(`the accuracy is ${fresh.sampled}, expected ${RECIPE.stop_at_accuracy} to ${HIGHEST}`)
    if (process.exitCode === undefined)
      console.log(
        `other weights, as expected with ${JSON.stringify(here)} (shipped: ${JSON.stringify(there)}); both accuracies are right`,
      )
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** Held-out accuracies of the weights in a folder. */
async function accuracies(folder: string): Promise<{ sampled: number; greedy: number }> {
  const examiner = await createExaminer(folder)
  const trainer = await createTrainer({ ...TRL_SETTING, model: folder })
  try {
    const sampled = await examiner.expectedAccuracy(new Float32Array(trainer.info.trainable))
    const { accuracy } = await trainer.evaluate({ dataset: ARITH.test, mode: 'greedy' })
    return { sampled: rounded(sampled), greedy: accuracy }
  } finally {
    await trainer.close()
    await examiner.close()
  }
}

function rounded(value: number): number {
  return Number(value.toFixed(4))
}

function fail(message: string): void {
  console.error(message)
  process.exitCode = 1
}

async function areEqual(folder: string, name: string): Promise<boolean> {
  return (await sha256(join(folder, name))) === (await sha256(join(ARITH.model, name)))
}

async function sha256(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex')
}

function onnxruntime(): string {
  const manifest: unknown = createRequire(import.meta.url)('onnxruntime-node/package.json')
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest
    ? String(manifest.version)
    : 'unknown'
}

/** What chooses the engine's kernels: the architecture and, on Linux, the widest vectors. */
async function processor(): Promise<string> {
  const flags = await readFile('/proc/cpuinfo', 'utf8').catch(() => '')
  const vectors = ['avx512f', 'avx2'].find((flag) => new RegExp(`\\b${flag}\\b`).test(flags))
  return `${process.arch} ${vectors ?? 'other'}`
}
