/**
 * The signed contributions of this node on disk: `deltas/round-<r>.delta`, and beside them, for some rounds, what
 * it takes to replay one: `traces/round-<r>.trace`, `.state` (the trainer's at the start) and, of a lossy dtype,
 * `.residual` (what the delta lost). A signed delta is never lost.
 */
import { createReadStream } from 'node:fs'
import { readdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { resolveConfig, type GSPOConfig, type TrainerInfo } from '@gym-node/gspo'
import {
  encodeDelta,
  ErrorFeedback,
  sha3_256,
  verifyDelta,
  type DeltaMetadata,
  type DeltaTensorSource,
  type Identity,
} from '@gym-node/wire'
import type { Attester } from '../attestation/attester-types.ts'
import { createAttester } from '../attestation/attester.ts'
import type { NodeConfig } from '../config/schema.ts'
import { errnoOf, NodeError } from '../errors.ts'
import type { DeltaToWrite, WrittenDelta } from '../loop-parts.ts'
import type { DaemonEvent } from '../status.ts'
import { publicConfig } from '../validate/job-config.ts'
import { syncFolder, writeFileDurably } from './atomic.ts'
import type { StatePaths } from './folder.ts'
import { f32Bytes } from './shared-state.ts'
import { TraceFile } from './trace-file.ts'

/** What the store writes with. */
export interface DeltaStoreParts {
  readonly paths: StatePaths
  readonly identity: Identity
  readonly config: NodeConfig
  readonly trainerConfig: GSPOConfig
  readonly info: TrainerInfo
  readonly emit: (event: DaemonEvent) => void
}

/** A delta as its file holds it. */
interface StoredDelta {
  readonly tensors: readonly DeltaTensorSource[]
  /** What a reader gets, flat. */
  readonly sent: Float32Array
  /** What was lost, flat; null when nothing was lost or owed before. */
  readonly residual: Float32Array | null
  readonly relativeError: number
}

/** Writes deltas and their traces. */
export class DeltaStore {
  readonly #parts: DeltaStoreParts
  readonly #attester: Attester
  #sequence: number

  private constructor(parts: DeltaStoreParts, attester: Attester, sequence: number) {
    this.#parts = parts
    this.#attester = attester
    this.#sequence = sequence
  }

  /** Reads the sequence number and checks that deltas can be attested as configured. */
  static async open(parts: DeltaStoreParts): Promise<DeltaStore> {
    const attester = await createAttester(parts.config.attestation)
    return new DeltaStore(parts, attester, await readSequence(parts.paths.sequence))
  }

  /**
   * Opens the trace of a round, its start state durable before it: the one that an earlier run of the same round left,
   * or a new one. Null when traces are not kept.
   */
  async openTrace(round: number, stateBefore: Uint8Array): Promise<TraceFile | null> {
    const { paths, config, identity, info, trainerConfig } = this.#parts
    if (config.train.trace_keep_rounds === 0) return null
    await writeFileDurably(join(paths.traces, `round-${round}.state`), stateBefore)
    return TraceFile.open(join(paths.traces, `round-${round}.trace`), {
      version: 2,
      job: config.job,
      workerId: identity.peerId,
      round,
      stateBefore: hex(sha3_256(stateBefore)),
      model: { id: basename(info.model.dir), sha256: info.model.sha256 },
      dataset: { ...info.dataset },
      engine: info.engine,
      versions: { ...info.versions },
      config: publicConfig(resolveConfig(trainerConfig)),
    })
  }

  /**
   * Writes what the delta loses and the signed delta, durably and in this order, then reads the delta back. Answers
   * what a reader of the file gets, and the SHA3-256 of its body, by which the node binds itself to it.
   */
  async write(delta: DeltaToWrite, signal: AbortSignal): Promise<WrittenDelta> {
    const { paths, identity, config, emit } = this.#parts
    const stored = this.#store(delta)
    if (stored.residual !== null && delta.traceSha3 !== null) {
      const file = join(paths.traces, `round-${delta.round}.residual`)
      await writeFileDurably(file, f32Bytes(stored.residual))
    }
    const sequence = this.#sequence
    this.#sequence = sequence + 1
    // The number is spent before the signature exists: no two deltas ever carry the same one.
    await writeFileDurably(paths.sequence, `${this.#sequence}\n`)
    const file = join(paths.deltas, `round-${delta.round}.delta`)
    await keepSuperseded(paths.deltas, delta.round)
    const chunks = encodeDelta({
      metadata: this.#metadata(delta, sequence, stored.residual),
      tensors: stored.tensors,
      compression: config.train.delta_compression,
      signers: identity,
      ...(config.attestation.type === 'none'
        ? {}
        : { attest: (digest: Uint8Array) => this.#attester.attest(digest, { signal }) }),
    })
    const bytes = await writeFileDurably(file, chunks, 0o644)
    const verdict = await verifyDelta(createReadStream(file), undefined, bytes)
    if (!verdict.ok || verdict.bodySha3 === null) {
      const failed = verdict.checks
        .filter((check) => !check.ok)
        .map((check) => `${check.name}: ${check.detail}`)
      throw new NodeError(
        'STATE_CORRUPT',
        `${file} does not read back as it was written: ${failed.join('; ')}`,
      )
    }
    const sha3 = hex(verdict.bodySha3)
    emit({
      type: 'delta',
      round: delta.round,
      file,
      bytes,
      sha3_256: sha3,
      verified: verdict.ok,
      dtype: config.train.delta_dtype,
      relative_error: stored.relativeError,
    })
    await pruneRounds(paths.traces, delta.round - config.train.trace_keep_rounds)
    if (config.train.delta_keep_rounds !== null)
      await pruneRounds(paths.deltas, delta.round - config.train.delta_keep_rounds)
    const residual = config.train.delta_dtype === 'f32' ? null : stored.residual
    return { commitment: verdict.bodySha3, sent: stored.sent, residual }
  }

  /** The delta as the file holds it; of a lossy dtype with what earlier deltas owe added before it is rounded. */
  #store({ values, residual }: DeltaToWrite): StoredDelta {
    const { config, info } = this.#parts
    const { delta_dtype: dtype } = config.train
    const { tensors } = info.adapterLayout
    if (dtype === 'f32' && residual === null) {
      const whole = tensors.map(({ name, shape, offset }) => ({
        name,
        dtype,
        shape,
        values: values.subarray(offset, offset + shape[0] * shape[1]),
      }))
      return { tensors: whole, sent: values, residual: null, relativeError: 0 }
    }
    return new ErrorFeedback(dtype, tensors, residual ?? undefined).prepare(values)
  }

  #metadata(delta: DeltaToWrite, sequence: number, residual: Float32Array | null): DeltaMetadata {
    const { config, identity, info } = this.#parts
    const { train } = config
    return {
      worker_id: identity.peerId,
      job: config.job,
      view: delta.view.ringId,
      epoch: delta.view.epoch,
      round: delta.round,
      sequence,
      step_first: delta.steps[0]?.step ?? 0,
      step_last: delta.steps.at(-1)?.step ?? 0,
      timestamp: new Date().toISOString(),
      loss: meanOf(delta.steps.map((step) => step.loss)),
      reward_mean: meanOf(delta.steps.map((step) => step.rewardMean)),
      base_model: { id: basename(info.model.dir), sha256: info.model.sha256 },
      state_before: hex(sha3_256(f32Bytes(delta.adapterBefore))),
      state_after: hex(sha3_256(f32Bytes(delta.adapterAfter))),
      trace_sha3_256: delta.traceSha3,
      attestation: { type: 'none' },
      binding: null,
      content: 'difference',
      lora: {
        rank: train.lora_rank,
        alpha: train.lora_alpha,
        use_rslora: train.use_rslora,
        target_modules: [...train.lora_targets].sort(),
      },
      ...(residual === null
        ? {}
        : {
            residual: {
              before: delta.residual === null ? null : hex(sha3_256(f32Bytes(delta.residual))),
              after: hex(sha3_256(f32Bytes(residual))),
            },
          }),
      extra: {
        trainer_state_before: hex(sha3_256(delta.stateBefore)),
        trainer_state_after: hex(sha3_256(delta.stateAfter)),
        steps: delta.steps.length,
        completions: sum(delta.steps.map((step) => step.completions)),
        prompt_tokens: sum(delta.steps.map((step) => step.promptTokens)),
        generated_tokens: sum(delta.steps.map((step) => step.generatedTokens)),
        weight: delta.weight,
      },
    }
  }
}

/** Moves a delta of the same round that never was committed out of the way, under a name of its own. */
async function keepSuperseded(folder: string, round: number): Promise<void> {
  const name = `round-${round}.delta`
  const names = new Set(await readdir(folder))
  if (!names.has(name)) return
  let count = 1
  while (names.has(`round-${round}.superseded-${count}.delta`)) count++
  await rename(join(folder, name), join(folder, `round-${round}.superseded-${count}.delta`))
  await syncFolder(folder)
}

/**
 * Removes the files of rounds up to and including `last` from a folder of `round-<r>.*` files; a residual a round later,
 * as the replay of the next round starts from it.
 */
async function pruneRounds(folder: string, last: number): Promise<void> {
  if (last < 1) return
  for (const name of await readdir(folder)) {
    const [, round, kind] = /^round-(\d+)\..*(delta|trace|state|residual)$/.exec(name) ?? []
    const lastOfKind = kind === 'residual' ? last - 1 : last
    if (round !== undefined && Number(round) <= lastOfKind) await rm(join(folder, name), { force: true })
  }
}

async function readSequence(path: string): Promise<number> {
  try {
    const text = (await readFile(path, 'utf8')).trim()
    const sequence = Number(text)
    if (!Number.isSafeInteger(sequence) || sequence < 0)
      throw new NodeError('STATE_CORRUPT', `${path} holds "${text.slice(0, 20)}", expected a number`)
    return sequence
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0
    throw error
  }
}

/** Plain mean in step order, so that a replay finds the same number; null when it is none (JSON has no NaN). */
function meanOf(values: readonly number[]): number | null {
  const mean = sum(values) / values.length
  return Number.isFinite(mean) ? mean : null
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
