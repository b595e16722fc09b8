/** A worker's honest round with the real engine and the demo model, and the means to forge one. */

import { join } from 'node:path'
import { createTrainer, encodeTrace, resolveConfig } from '@gym-node/gspo'
import type { GSPOConfig, StepStats, StepTrace, TraceHeader, Trainer } from '@gym-node/gspo'
import { createIdentity, encodeDeltaToBuffer, ErrorFeedback, sha3_256 } from '@gym-node/wire'
import type { DeltaDtype, DeltaMetadata, Identity } from '@gym-node/wire'
import { publicConfig } from '../src/validate/job-config.ts'
import { readBaseState } from '../src/validate/replay-files.ts'
import type { ReplayInput } from '../src/validate/replay-types.ts'
import { workerSeed } from '../src/validate/worker-seed.ts'
import { DEMO_MODEL } from './delta-tools-fixtures.ts'

export const JOB = 'arith'

/** A worker's identity from a number. */
export function workerOf(seed: number): Identity {
  return createIdentity({
    ed25519: new Uint8Array(32).fill(seed),
    mlDsa87: new Uint8Array(32).fill(seed + 100),
  })
}

export const honest = workerOf(1)

/** The job's configuration; the seed is the honest worker's. */
export function jobConfig(change: Partial<GSPOConfig> = {}): GSPOConfig {
  return {
    model: DEMO_MODEL,
    dataset: join(DEMO_MODEL, 'train.jsonl'),
    threads: 1,
    seed: workerSeed(honest.peerId),
    prompts_per_step: 6,
    group_size: 6,
    steps_per_generation: 2,
    max_completion_length: 8,
    learning_rate: 2e-4,
    lora_rank: 4,
    lora_alpha: 8,
    ...change,
  }
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

export function floatBytes(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** Everything of a round, before it is written to files; forging changes parts of it. */
export interface Round {
  readonly identity: Identity
  readonly round: number
  readonly config: GSPOConfig
  readonly info: Trainer['info']
  readonly base: Uint8Array
  readonly after: Uint8Array
  readonly traces: readonly StepTrace[]
  readonly stats: readonly StepStats[]
  /** Adapter after minus before, flat. */
  readonly difference: Float32Array
}

/** Works `steps` local steps from the trainer's current state. */
export async function workRound(
  trainer: Trainer,
  o: { identity: Identity; round: number; config: GSPOConfig; steps?: number },
): Promise<Round> {
  const base = await trainer.exportState()
  const before = await trainer.readAdapter()
  const traces: StepTrace[] = []
  const stats: StepStats[] = []
  for (let step = 0; step < (o.steps ?? 3); step += 1) {
    const record = await trainer.step()
    traces.push(record.trace)
    stats.push(record.stats)
  }
  const after = await trainer.exportState()
  const difference = (await trainer.readAdapter()).map((value, i) => value - (before[i] ?? 0))
  const { identity, round, config } = o
  return { identity, round, config, info: trainer.info, base, after, traces, stats, difference }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Changes to what the files of a round say; everything is hashed and signed consistently afterwards. */
export interface Forgery {
  readonly header?: Partial<TraceHeader>
  readonly metadata?: Partial<DeltaMetadata>
  readonly extra?: Record<string, number | string>
  readonly dtype?: DeltaDtype
  /** With error feedback: what was left over before, and lies about it. */
  readonly feedback?: {
    readonly before: Float32Array | null
    /** What is sent instead of the round's difference. */
    readonly instead?: Float32Array
    /** What is claimed to be left over. */
    readonly after?: Float32Array
  }
}

/** The files of a round as the worker hands them out, signed by the round's identity. */
export async function filesOf(
  round: Round,
  forgery: Forgery = {},
): Promise<Pick<ReplayInput, 'delta' | 'trace' | 'base'> & { lost: Float32Array }> {
  const { identity, info, base, after, traces, stats, difference } = round
  const header: TraceHeader = {
    version: 2,
    job: JOB,
    workerId: identity.peerId,
    round: round.round,
    stateBefore: hex(sha3_256(base)),
    model: { id: 'arith-model', sha256: info.model.sha256 },
    dataset: { ...info.dataset },
    config: publicConfig(resolveConfig(round.config)),
    engine: info.engine,
    versions: { ...info.versions },
    ...forgery.header,
  }
  const trace = encodeTrace(header, traces)
  const [first = 1, last = 0] = [traces[0]?.step, traces.at(-1)?.step]
  const total = (of: (step: StepStats) => number): number => stats.reduce((sum, step) => sum + of(step), 0)
  const { dtype = 'f32', feedback } = forgery
  const { tensors: layout } = info.adapterLayout
  const prepared = new ErrorFeedback(dtype, layout, feedback?.before ?? undefined).prepare(
    feedback?.instead ?? difference,
  )
  const residual = feedback?.after ?? prepared.residual
  const stated = {
    before: feedback?.before == null ? null : hex(sha3_256(floatBytes(feedback.before))),
    after: hex(sha3_256(floatBytes(residual))),
  }
  const metadata: DeltaMetadata = {
    worker_id: identity.peerId,
    job: JOB,
    view: 'ring',
    epoch: 1,
    round: round.round,
    sequence: round.round,
    step_first: first,
    step_last: last,
    timestamp: '2026-01-31T12:00:00Z',
    loss: mean(stats.map(({ loss }) => loss)),
    reward_mean: mean(stats.map(({ rewardMean }) => rewardMean)),
    base_model: { id: 'arith-model', sha256: info.model.sha256 },
    state_before: hex(sha3_256(floatBytes(readBaseState(base).adapter))),
    state_after: hex(sha3_256(floatBytes(readBaseState(after).adapter))),
    trace_sha3_256: hex(sha3_256(trace)),
    attestation: { type: 'none' },
    binding: null,
    content: 'difference',
    ...(feedback === undefined ? {} : { residual: stated }),
    extra: {
      trainer_state_before: hex(sha3_256(base)),
      trainer_state_after: hex(sha3_256(after)),
      steps: stats.length,
      completions: total(({ completions }) => completions),
      prompt_tokens: total(({ promptTokens }) => promptTokens),
      generated_tokens: total(({ generatedTokens }) => generatedTokens),
      ...forgery.extra,
    },
    ...forgery.metadata,
  }
  const { tensors } = prepared
  const delta = await encodeDeltaToBuffer({ metadata, tensors, compression: 'lz4', signers: identity })
  return { delta, trace, base, lost: residual }
}

/** Opens trainers in this process and keeps them, so that many replays load the model once. */
export class TrainerPool {
  readonly #open = new Map<string, Trainer>()

  async take(config: GSPOConfig): Promise<Trainer> {
    const key = JSON.stringify(resolveConfig(config))
    const kept = this.#open.get(key)
    if (kept !== undefined) return kept
    const trainer = await createTrainer(config)
    this.#open.set(key, trainer)
    return trainer
  }

  /** As `openTrainer` of a replay: closing is left to `close`. */
  readonly lend = async (config: GSPOConfig): Promise<Trainer> => {
    const trainer = await this.take(config)
    return { ...trainer, close: () => Promise.resolve() }
  }

  async close(): Promise<void> {
    for (const trainer of this.#open.values()) await trainer.close()
  }
}
