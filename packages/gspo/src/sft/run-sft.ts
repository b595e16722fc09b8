/**
 * A supervised warm-start: all weights of a small model from random numbers to where reinforcement learning can begin,
 * by cross-entropy on the answers. Blocks the thread while the engine computes.
 */
import { setImmediate as yieldToEvents } from 'node:timers/promises'
import { loadDataset } from '../data/dataset.ts'
import type { DataRow } from '../data/dataset.ts'
import { createDataOrder } from '../data/order.ts'
import type { DataOrder } from '../data/order.ts'
import { DEFAULT_MICRO_BATCH_TOKENS } from '../defaults.ts'
import { GspoError } from '../errors.ts'
import { loadFullModel } from '../full-model.ts'
import type { FullModel } from '../full-model.ts'
import { LORA_TARGETS } from '../lora.ts'
import { readModelConfig } from '../models/config.ts'
import { adamwInit, adamwUpdate } from '../optim/adamw.ts'
import { clipGradient } from '../optim/clip.ts'
import { learningRateAt } from '../optim/schedule.ts'
import { loadPolicy } from '../policy.ts'
import type { TokenBatch } from '../policy-types.ts'
import { buildTokenBatch } from '../rollout/token-batch.ts'
import type { Sequence } from '../rollout/token-batch.ts'
import { scoreSequences } from '../teacher-forcing.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { readSftCheckpoint, recipeOf, writeSftCheckpoint } from './checkpoint.ts'
import { resolveSftConfig } from './config.ts'
import type { ResolvedSftConfig, SftConfig } from './config.ts'
import { makeFolder } from './files.ts'
import type { SftProgress, SftRecipe, SftState } from './state.ts'
import { initializerRange, initialWeights, sizeOf, writeModelFolder } from './weights.ts'

/** How to run. */
export interface SftOptions {
  readonly onProgress?: (progress: SftProgress) => void
  readonly signal?: AbortSignal
}

/**
 * Trains and writes `output_dir`, complete at every evaluation; resolves to the last progress. With `checkpoint_dir` a
 * run that was ended, by SIGKILL too, goes on from its last evaluation to the same bits as one that was not, and one
 * that is over is not repeated. Rejects with GspoError: BAD_CONFIG, FILE_MISSING, FILE_UNWRITABLE, BAD_DATASET,
 * BAD_STATE, NON_FINITE, CANCELLED.
 */
export async function runSft(config: SftConfig, options: SftOptions = {}): Promise<SftProgress> {
  const resolved = resolveSftConfig(config)
  // What cannot be written is told before the training, not after.
  for (const dir of [resolved.output_dir, resolved.checkpoint_dir])
    if (dir !== undefined) await makeFolder(dir)
  const tokenizer = await loadTokenizer(resolved.model)
  const files = typeof resolved.dataset === 'string' ? [resolved.dataset] : resolved.dataset
  const { rows } = await loadDataset(files)
  const evaluation =
    resolved.eval_dataset === undefined
      ? []
      : (await loadDataset([resolved.eval_dataset])).rows.slice(0, resolved.eval_limit)
  const { eosTokenIds, padTokenId } = await readModelConfig(resolved.model)
  const encode = (row: DataRow, index: number): Sequence => encodeRow(tokenizer, row, index, eosTokenIds[0])
  const [training, held] = [rows.map(encode), evaluation.map(encode)]
  const model = await loadFullModel({ modelDir: resolved.model, threads: resolved.threads })
  try {
    return await train({ model, training, held, padTokenId, config: resolved }, options)
  } finally {
    await model.close()
  }
}

/** What a run works with. */
interface SftRun {
  readonly model: FullModel
  readonly training: readonly Sequence[]
  readonly held: readonly Sequence[]
  readonly padTokenId: number
  readonly config: ResolvedSftConfig
}

async function train(run: SftRun, { onProgress, signal }: SftOptions): Promise<SftProgress> {
  const { model, config, training, held } = run
  const { layout } = model
  const parameters = layout.tensors.map(({ offset, shape }) => ({ offset, length: sizeOf(shape) }))
  const order = createDataOrder(training.length, config.seed, true)
  const recipe = await recipeOf(config, { training, held })
  let state = await firstState(run, recipe)
  if (state.last !== null && isOver(state.last, config)) {
    // Its folder may have been lost since.
    await writeModelFolder(config.output_dir, config.model, layout, state.weights)
    return state.last
  }
  const started = performance.now() - 1000 * (state.last?.seconds ?? 0)
  for (;;) {
    await yieldToEvents()
    if (signal?.aborted === true)
      throw new GspoError('CANCELLED', `sft was cancelled after ${state.step} updates`)
    model.setWeights(state.weights)
    const step = state.step + 1
    const { loss, gradient } = await model.crossEntropyAndGradient(batchOf(run, order, step))
    if (!Number.isFinite(loss))
      throw new GspoError(
        'NON_FINITE',
        `the loss is ${loss} after ${state.step} updates: lower learning_rate`,
      )
    const gradNorm = clipGradient(gradient, config.max_grad_norm)
    const learningRate = learningRateOf(state, config)
    const next = adamwUpdate(state.weights, gradient, state.optimizer, parameters, {
      learningRate,
      beta1: config.adam_beta1,
      beta2: config.adam_beta2,
      epsilon: config.adam_epsilon,
      weightDecay: config.weight_decay,
    })
    state = { ...state, weights: next.weights, optimizer: next.state, step }
    if (step % config.eval_steps !== 0 && step !== config.max_steps) continue
    await writeModelFolder(config.output_dir, config.model, layout, state.weights)
    const accuracy = held.length === 0 ? null : await expectedAccuracy(config, held)
    const seconds = (performance.now() - started) / 1000
    const last = { step, loss, learningRate, gradNorm, accuracy, seconds }
    const isRateLow = state.isRateLow || (accuracy ?? -1) >= (config.lr_drop_at_accuracy ?? Infinity)
    state = { ...state, isRateLow, last }
    if (config.checkpoint_dir !== undefined) await writeSftCheckpoint(config.checkpoint_dir, state, recipe)
    onProgress?.(last)
    if (isOver(last, config)) return last
  }
}

/** Where an interrupted run has got to, or random weights. */
async function firstState({ model, config }: SftRun, recipe: SftRecipe): Promise<SftState> {
  const { layout } = model
  const kept =
    config.checkpoint_dir === undefined
      ? null
      : await readSftCheckpoint(config.checkpoint_dir, recipe, layout)
  if (kept !== null) return kept
  const { zeroCentredNorms } = await readModelConfig(config.model)
  const range = await initializerRange(config.model)
  return {
    weights: initialWeights(layout, { range, seed: config.seed, zeroCentredNorms }),
    optimizer: adamwInit(layout.length, layout.tensors.length),
    step: 0,
    isRateLow: false,
    last: null,
  }
}

function isOver({ step, accuracy }: SftProgress, config: ResolvedSftConfig): boolean {
  return step >= config.max_steps || (accuracy ?? -1) >= (config.stop_at_accuracy ?? Infinity)
}

/** The rate of the update after `state`. */
function learningRateOf({ step, isRateLow }: SftState, config: ResolvedSftConfig): number {
  const scheduled = learningRateAt(step, {
    type: config.lr_scheduler_type,
    learningRate: config.learning_rate,
    warmupUpdates: config.warmup_steps,
    totalUpdates: config.max_steps,
  })
  return (isRateLow ? config.lr_drop_factor : 1) * scheduled
}

/** The rows of one update. */
function batchOf({ training, config, padTokenId }: SftRun, order: DataOrder, step: number): TokenBatch {
  const first = (step - 1) * config.batch_size
  const rows = Array.from({ length: config.batch_size }, (_, index) => training[order.rowAt(first + index)])
  return buildTokenBatch(
    rows.filter((row) => row !== undefined),
    padTokenId,
  )
}

/** A row as its prompt and the tokens to learn: the answer, which begins with no token of a text's start, and the end. */
export function encodeRow(
  tokenizer: Pick<Tokenizer, 'encodePrompt' | 'encodeContinuation'>,
  row: DataRow,
  index: number,
  endToken: number | undefined,
): Sequence {
  if (row.answer === undefined)
    throw new GspoError(
      'BAD_DATASET',
      `row ${index + 1} has no "answer": supervised training needs one in every row`,
    )
  const answer = tokenizer.encodeContinuation(row.answer)
  return {
    promptIds: tokenizer.encodePrompt(row.prompt),
    tokens: endToken === undefined ? answer : Int32Array.from([...answer, endToken]),
  }
}

/** The mean over rows of the answer's probability, its end token included, by the model that was just written. */
async function expectedAccuracy(config: ResolvedSftConfig, rows: readonly Sequence[]): Promise<number> {
  const policy = await loadPolicy({
    modelDir: config.output_dir,
    lora: { rank: 1, alpha: 1, targets: LORA_TARGETS, useRslora: false },
    engine: 'auto',
    threads: config.threads,
  })
  try {
    const options = {
      adapter: false,
      config: { micro_batch_tokens: DEFAULT_MICRO_BATCH_TOKENS, temperature: 1 },
    }
    const scores = await scoreSequences(policy, rows, options, new AbortController().signal)
    const probability = ({ logps }: { logps: Float32Array }): number =>
      Math.exp(logps.reduce((sum, logp) => sum + logp, 0))
    return scores.reduce((sum, score) => sum + probability(score), 0) / rows.length
  } finally {
    await policy.close()
  }
}
