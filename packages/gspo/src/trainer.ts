/**
 * The trainer in this process: rollout, reward, learning, one call after another. It owns the policy and the state; a
 * step that fails or is cancelled leaves both as they were. The engine blocks the thread: daemons use spawnTrainer.
 */
import { resolve } from 'node:path'
import type { TrainerState } from './checkpoint/state.ts'
import { decodeState, encodeState } from './checkpoint/state.ts'
import { resolveConfig } from './config.ts'
import type { GSPOConfig, ResolvedConfig } from './config.ts'
import { loadDataset } from './data/dataset.ts'
import { createDataOrder } from './data/order.ts'
import { checkPromptLengths, longTextTokens } from './data/prompt-lengths.ts'
import { GspoError } from './errors.ts'
import { evaluateDataset } from './evaluate.ts'
import { learn } from './learn.ts'
import type { LoraConfig } from './lora.ts'
import { createMutex } from './mutex.ts'
import { adamwInit } from './optim/adamw.ts'
import { readAdapterFolder, writeAdapterFolder } from './peft/adapter-folder.ts'
import type { AdapterDescription } from './peft/adapter-folder.ts'
import { loadPolicy } from './policy.ts'
import type { Policy } from './policy-types.ts'
import { replaySteps } from './replay.ts'
import { createRewards } from './rewards/create.ts'
import { closeRewards } from './rewards/score.ts'
import { rollout, rolloutOptionsOf } from './rollout/rollout.ts'
import type { Completion, RolloutPrompt } from './rollout/rollout.ts'
import { pushAdapter, serverRollout } from './rollout/server-rollout.ts'
import { scoreRollout } from './rollout/score-rollout.ts'
import { describeStep } from './stats.ts'
import { scoreSequences } from './teacher-forcing.ts'
import { loadTokenizer } from './tokenizer/tokenizer.ts'
import type { StepRecord, Trainer, TrainerInfo } from './trainer-types.ts'
import { versionsWith } from './versions.ts'
import type { Workshop } from './workshop.ts'

/** A signal that never fires, for calls without one. */
const NEVER = new AbortController().signal

/**
 * Loads model, data and rewards into this process. Throws GspoError: BAD_CONFIG, FILE_MISSING, BAD_DATASET,
 * BAD_TOKENIZER, BAD_REWARD, BAD_ADAPTER, and what loading the model throws.
 */
export async function createTrainer(config: GSPOConfig): Promise<Trainer> {
  const resolved = resolveConfig(config)
  // Cheap checks come before the model is loaded, so that a typing error shows at once.
  await using undo = new AsyncDisposableStack()
  const rewards = await createRewards(resolved.rewards)
  undo.defer(() => closeRewards(rewards))
  const dataset = await loadDataset(
    typeof resolved.dataset === 'string' ? [resolved.dataset] : resolved.dataset,
  )
  const tokenizer = await loadTokenizer(resolved.model, resolved.chat_template_kwargs)
  const promptLength = longTextTokens(dataset.rows, tokenizer)
  const policy = await loadPolicy({
    modelDir: resolved.model,
    longestSequence: promptLength + resolved.max_completion_length,
    lora: loraConfigOf(resolved),
    engine: resolved.engine,
    threads: resolved.threads,
    use4bit: resolved.use_4bit,
    use8bitHead: resolved.use_8bit_head,
    quantBlock: resolved.quant_block_size,
    gradientCheckpointing: resolved.gradient_checkpointing,
    ...(resolved.memory_limit_mb === undefined ? {} : { memoryLimitMb: resolved.memory_limit_mb }),
  })
  undo.defer(() => policy.close())
  checkPromptLengths(dataset.rows, tokenizer, {
    maxPositions: policy.model.maxPositions,
    completionLength: resolved.max_completion_length,
    templateVariables: resolved.chat_template_kwargs,
  })
  checkSampling(resolved, policy, promptLength)
  const adapter =
    resolved.adapter === undefined
      ? policy.initialAdapter(resolved.adapter_seed)
      : await readAdapterFolder(resolved.adapter, {
          layout: policy.adapterLayout,
          lora: loraConfigOf(resolved),
        })
  const order = createDataOrder(dataset.rows.length, resolved.seed, resolved.shuffle_dataset)
  const trainer = localTrainer({ config: resolved, policy, tokenizer, dataset, order, rewards }, adapter)
  undo.move()
  return trainer
}

/** A limit under which the group of a prompt of this length cannot be sampled shows now, not when it comes. */
function checkSampling(config: ResolvedConfig, policy: Policy, promptLength: number): void {
  if (config.rollout_server !== undefined) return
  const { group_size: group, max_completion_length: completionLength, max_decoding_rows: maxRows } = config
  policy.promptsAtOnce({ promptLength, completionLength, group, maxRows })
}

function loraConfigOf(config: ResolvedConfig): LoraConfig {
  return {
    rank: config.lora_rank,
    alpha: config.lora_alpha,
    targets: config.lora_targets,
    useRslora: config.use_rslora,
  }
}

function localTrainer(workshop: Workshop, adapter: Float32Array): Trainer {
  const { policy } = workshop
  const layout = policy.adapterLayout
  const mutex = createMutex()
  let closed = false
  let state: TrainerState = {
    adapter,
    optimizer: adamwInit(layout.length, layout.tensors.length),
    step: 0,
    updates: 0,
    dataPosition: 0,
  }
  policy.setAdapter(adapter)

  const queued = <T>(call: () => Promise<T>): Promise<T> =>
    mutex.run(() => {
      if (closed) throw new GspoError('CLOSED', 'the trainer is closed')
      return call()
    })
  const adopt = (next: TrainerState): void => {
    state = next
    policy.setAdapter(next.adapter)
  }
  return {
    info: describeTrainer(workshop),
    step: ({ signal = NEVER } = {}) =>
      queued(() =>
        cancellable(signal, async () => {
          const { record, after } = await runStep(workshop, state, signal)
          adopt(after)
          return record
        }),
      ),
    replay: (steps, { signal = NEVER, ...options } = {}) =>
      queued(() =>
        cancellable(signal, async () => {
          const { replayed, after } = await replaySteps(workshop, state, steps, options, signal)
          adopt(after)
          return replayed
        }),
      ),
    readAdapter: () => queued(() => Promise.resolve(state.adapter.slice())),
    writeAdapter: (values) =>
      queued(async () => {
        checkAdapter(values, layout.length)
        adopt({ ...state, adapter: values.slice() })
      }),
    evaluate: (options) => {
      const { signal = NEVER } = options
      return queued(() => cancellable(signal, () => evaluateDataset(workshop, options, signal)))
    },
    exportState: () => queued(() => Promise.resolve(encodeState(state))),
    importState: (bytes) => queued(async () => adopt(decodeState(bytes, layout))),
    exportAdapter: (dir) =>
      queued(() => writeAdapterFolder(dir, state.adapter, adapterDescription(workshop))),
    close: () =>
      mutex.run(async () => {
        if (closed) return
        closed = true
        await closeRewards(workshop.rewards)
        await policy.close()
      }),
  }
}

/** One step from `state`; pure but for the policy's adapter, which `learn` restores on failure. */
async function runStep(
  workshop: Workshop,
  state: TrainerState,
  signal: AbortSignal,
): Promise<{ record: StepRecord; after: TrainerState }> {
  const { config, policy, tokenizer, dataset, order } = workshop
  const started = performance.now()
  const prompts = Array.from({ length: config.prompts_per_step }, (_, index) => {
    const position = state.dataPosition + index
    const row = dataset.rows[order.rowAt(position)]
    if (row === undefined)
      throw new GspoError('BAD_STATE', `data position ${position} is outside the data set`)
    return { position, ids: tokenizer.encodePrompt(row.prompt), row }
  })
  const groups = await sampleGroups(workshop, state, prompts, signal)
  const rolledOut = performance.now()
  const scored = await scoreRollout(workshop, prompts, groups, signal)
  const rewarded = performance.now()
  const trace = { step: state.step + 1, seed: config.seed, groups: scored.groups }
  const learned = await learn(policy, state, trace, config, signal)
  const seconds = {
    rollout: (rolledOut - started) / 1000,
    reward: (rewarded - rolledOut) / 1000,
    total: (performance.now() - started) / 1000,
  }
  const stats = describeStep(trace, learned, workshop.rewards, seconds)
  return {
    record: { stats, trace, rewardFailures: scored.failures, samples: scored.samples },
    after: learned.state,
  }
}

/** The step's completions, by this engine or by the configured server. */
async function sampleGroups(
  workshop: Workshop,
  state: TrainerState,
  prompts: readonly RolloutPrompt[],
  signal: AbortSignal,
): Promise<Completion[][]> {
  const { config, policy } = workshop
  const server = config.rollout_server
  if (server === undefined) {
    const groups = await rollout(policy, prompts, rolloutOptionsOf(workshop, signal))
    // In 4 bits decoding rounds otherwise than the loss does, which would look like a change of policy.
    const isOffPolicy = config.steps_per_generation * config.num_iterations > 1
    return config.use_4bit && isOffPolicy ? withLogps(workshop, prompts, groups, signal) : groups
  }
  await writeAdapterFolder(server.adapter_dir, state.adapter, adapterDescription(workshop))
  await pushAdapter(server, signal)
  const groups = await serverRollout(server, prompts, config, policy.model, signal)
  return withLogps(workshop, prompts, groups, signal)
}

/** Completions with the logprobs that the loss's own forward pass gives them. */
async function withLogps(
  { config, policy }: Workshop,
  prompts: readonly RolloutPrompt[],
  groups: readonly (readonly Omit<Completion, 'logps'>[])[],
  signal: AbortSignal,
): Promise<Completion[][]> {
  const sequences = groups.flatMap((group, index) => {
    const promptIds = prompts[index]?.ids ?? new Int32Array(0)
    return group.map(({ tokens }) => ({ promptIds, tokens }))
  })
  const scores = await scoreSequences(policy, sequences, { adapter: true, config }, signal)
  let next = 0
  return groups.map((group) =>
    group.map((completion) => ({ ...completion, logps: scores[next++]?.logps ?? new Float32Array(0) })),
  )
}

function adapterDescription({ config, policy }: Workshop): AdapterDescription {
  return { layout: policy.adapterLayout, lora: loraConfigOf(config), baseModel: config.model }
}

/** Turns the rejection of a cancelled call into GspoError CANCELLED. */
async function cancellable<T>(signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  try {
    signal.throwIfAborted()
    return await call()
  } catch (error) {
    if (!signal.aborted) throw error
    throw new GspoError('CANCELLED', 'the call was cancelled; the trainer is as it was before', {
      cause: error,
    })
  }
}

function checkAdapter(values: Float32Array, length: number): void {
  if (values.length !== length)
    throw new GspoError('BAD_ADAPTER', `writeAdapter got ${values.length} elements, expected ${length}`)
  const bad = values.findIndex((value) => !Number.isFinite(value))
  if (bad >= 0)
    throw new GspoError(
      'BAD_ADAPTER',
      `writeAdapter got ${values[bad]} at element ${bad}, expected finite numbers`,
    )
}

function describeTrainer({ config, policy, dataset }: Workshop): TrainerInfo {
  return {
    model: { ...policy.model, dir: resolve(config.model) },
    engine: policy.engine,
    engineNote: policy.engineNote,
    adapterLayout: policy.adapterLayout,
    datasetSize: dataset.rows.length,
    dataset: { size: dataset.rows.length, sha256: dataset.sha256 },
    trainable: policy.adapterLayout.length,
    versions: versionsWith(policy.engineVersions),
  }
}
