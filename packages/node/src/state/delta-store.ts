/**
 * The signed contributions of this node on disk: `deltas/round-<r>.delta`, and beside them, for some rounds, what
 * it takes to replay one: `traces/round-<r>.trace` and `traces/round-<r>.state`. A signed delta is never lost.
 */
import { createReadStream } from 'node:fs'
import { readdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import {
  encodeTraceHeader,
  encodeTraceStep,
  resolveConfig,
  type GSPOConfig,
  type TrainerInfo,
} from '@gym-node/gspo'
import {
  encodeDelta,
  sha3_256,
  verifyDelta,
  type DeltaMetadata,
  type DeltaTensorSource,
  type Identity,
} from '@gym-node/wire'
import { createAttester, type Attester } from '../attestation/attester.ts'
import type { NodeConfig } from '../config/schema.ts'
import { errnoOf, NodeError } from '../errors.ts'
import type { DeltaToWrite } from '../loop.ts'
import type { DaemonEvent } from '../status.ts'
import { publicConfig } from '../validate/job-config.ts'
import { syncFolder, writeFileDurably } from './atomic.ts'
import type { StatePaths } from './folder.ts'
import { f32Bytes } from './shared-state.ts'

/** What the store writes with. */
export interface DeltaStoreParts {
  readonly paths: StatePaths
  readonly identity: Identity
  readonly config: NodeConfig
  readonly trainerConfig: GSPOConfig
  readonly info: TrainerInfo
  readonly emit: (event: DaemonEvent) => void
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
   * Writes trace, start state and signed delta of a round, durably and in this order, then reads the delta
   * back. Answers the SHA3-256 of its body, by which the node binds itself to it.
   */
  async write(delta: DeltaToWrite, signal: AbortSignal): Promise<Uint8Array> {
    const { paths, identity, config, emit } = this.#parts
    const traceSha3 = await this.#writeTrace(delta)
    const sequence = this.#sequence
    this.#sequence = sequence + 1
    // The number is spent before the signature exists: no two deltas ever carry the same one.
    await writeFileDurably(paths.sequence, `${this.#sequence}\n`)
    const file = join(paths.deltas, `round-${delta.round}.delta`)
    await keepSuperseded(paths.deltas, delta.round)
    const chunks = encodeDelta({
      metadata: this.#metadata(delta, sequence, traceSha3),
      tensors: tensorsOf(delta.values, this.#parts.info),
      compression: config.train.delta_compression,
      signers: identity,
      ...(config.attestation.type === 'none'
        ? {}
        : { attest: (digest: Uint8Array) => this.#attester.attest(digest, { signal }) }),
    })
    const bytes = await writeFileDurably(file, chunks, 0o644)
    const verdict = await verifyDelta(createReadStream(file))
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
    emit({ type: 'delta', round: delta.round, file, bytes, sha3_256: sha3, verified: verdict.ok })
    await pruneRounds(paths.traces, delta.round - config.train.trace_keep_rounds)
    if (config.train.delta_keep_rounds !== null)
      await pruneRounds(paths.deltas, delta.round - config.train.delta_keep_rounds)
    return verdict.bodySha3
  }

  /** Writes trace and start state; answers the trace's hash, or null when traces are not kept. */
  async #writeTrace(delta: DeltaToWrite): Promise<string | null> {
    const { paths, config, identity, info, trainerConfig } = this.#parts
    if (config.train.trace_keep_rounds === 0) return null
    const header = encodeTraceHeader({
      version: 1,
      job: config.job,
      workerId: identity.peerId,
      round: delta.round,
      stateBefore: hex(sha3_256(delta.stateBefore)),
      model: { id: basename(info.model.dir), sha256: info.model.sha256 },
      dataset: { ...info.dataset },
      engine: info.engine,
      versions: { ...info.versions },
      config: publicConfig(resolveConfig(trainerConfig)),
    })
    const trace = Buffer.concat([header, ...delta.traces.map(encodeTraceStep)])
    await writeFileDurably(join(paths.traces, `round-${delta.round}.state`), delta.stateBefore)
    await writeFileDurably(join(paths.traces, `round-${delta.round}.trace`), trace)
    return hex(sha3_256(trace))
  }

  #metadata(delta: DeltaToWrite, sequence: number, traceSha3: string | null): DeltaMetadata {
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
      trace_sha3_256: traceSha3,
      attestation: { type: 'none' },
      binding: null,
      content: 'difference',
      lora: {
        rank: train.lora_rank,
        alpha: train.lora_alpha,
        use_rslora: train.use_rslora,
        target_modules: [...train.lora_targets].sort(),
      },
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

/** The flat vector as named tensors: views, no copies. */
function tensorsOf(values: Float32Array, info: TrainerInfo): DeltaTensorSource[] {
  return info.adapterLayout.tensors.map(({ name, shape, offset }) => ({
    name,
    dtype: 'f32',
    shape,
    values: values.subarray(offset, offset + shape[0] * shape[1]),
  }))
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

/** Removes the files of rounds up to and including `last` from a folder of `round-<r>.*` files. */
async function pruneRounds(folder: string, last: number): Promise<void> {
  if (last < 1) return
  for (const name of await readdir(folder)) {
    const round = /^round-(\d+)\..*(?:delta|trace|state)$/.exec(name)?.[1]
    if (round !== undefined && Number(round) <= last) await rm(join(folder, name), { force: true })
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
