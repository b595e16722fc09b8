/**
 * Replays a delta: recomputes the worker's local steps from its trace, without sampling but for a few groups, and says
 * which claims hold. Files that already contradict each other are not replayed: that costs nothing.
 */

import { randomInt } from 'node:crypto'
import { GspoError, resolveConfig, spawnTrainer } from '@gym-node/gspo'
import type { ReplayedStep, ResolvedConfig, Trainer } from '@gym-node/gspo'
import { sha3_256, type DeltaMetadata } from '@gym-node/wire'
import { checked, isAccepted, type CheckResult } from './checks.ts'
import { replayConfigOf } from './job-config.ts'
import {
  adapterCheck,
  compareAdapters,
  hasLayout,
  metadataCheck,
  positionsCheck,
  resamplingCheck,
  rewardsCheck,
  samplingCheck,
  tokensCheck,
  type StepPairs,
} from './replay-compare.ts'
import { replayConfigSchema, type ReplayConfig } from './replay-config.ts'
import { openFiles, type ReadFiles } from './replay-files.ts'
import { isStorageFault, residualAfterCheck, storedAs } from './replay-residual.ts'
import type { AdapterComparison, ReplayCheckName, ReplayInput, ReplayVerdict } from './replay-types.ts'

type Check = CheckResult<ReplayCheckName>

/** What the engine's part adds. */
interface Replayed {
  readonly checks: Check[]
  readonly comparison: AdapterComparison | null
  readonly stateAfter: Uint8Array | null
  readonly seconds: number
}

/**
 * The verdict on a delta. Bad bytes from the worker are failed checks. It throws only for this side's own failures:
 * a bad `config`, a model or data set that cannot be loaded, an engine that dies, the signal.
 */
export async function replayDelta(input: ReplayInput): Promise<ReplayVerdict> {
  const job = resolveConfig(input.config)
  const tolerance = replayConfigSchema.parse(input.tolerance ?? {})
  const { checks, files, metadata } = await openFiles(
    input,
    job,
    tolerance.require_identical ? 0 : tolerance.max_adapter_error,
  )
  const nothing = { checks, metadata, comparison: null, stateAfter: null, seconds: 0 }
  if (files === null || !isAccepted(checks)) return { ok: false, ...nothing }
  const open = input.openTrainer ?? spawnTrainer
  const trainer = await open(replayConfigOf(job, files.traced))
  try {
    const found = await replayWith(trainer, files, input, job, tolerance)
    const all = [...checks, ...found.checks]
    return { ok: isAccepted(all) && found.stateAfter !== null, ...found, checks: all, metadata }
  } finally {
    await trainer.close()
  }
}

async function replayWith(
  trainer: Trainer,
  files: ReadFiles,
  input: ReplayInput,
  job: ResolvedConfig,
  tolerance: ReplayConfig,
): Promise<Replayed> {
  const { metadata, trace } = files
  const checks: Check[] = [
    checked(
      'model',
      trainer.info.model.sha256 === metadata.base_model.sha256 &&
        trainer.info.model.sha256 === trace.header.model.sha256
        ? null
        : `the delta is for model ${metadata.base_model.sha256}, the trace for ${trace.header.model.sha256}, here is ${trainer.info.model.sha256}`,
      trainer.info.model.sha256,
    ),
    checked(
      'dataset',
      trainer.info.dataset.sha256 === trace.header.dataset.sha256
        ? null
        : `the trace's data set is ${trace.header.dataset.sha256}, here is ${trainer.info.dataset.sha256}`,
      trainer.info.dataset.sha256,
    ),
  ]
  const rejected = (extra: readonly Check[]): Replayed => ({
    checks: [...checks, ...extra],
    comparison: null,
    stateAfter: null,
    seconds: 0,
  })
  if (!isAccepted(checks)) return rejected([])
  const started = performance.now()
  let replayed: ReplayedStep[]
  try {
    await trainer.importState(input.base)
    const sizes = trace.steps.map(({ groups }) => groups.length)
    const pick = input.pick ?? pickFresh
    replayed = await trainer.replay(trace.steps, {
      seed: files.traced.seed,
      recompute: pickGroups(sizes, tolerance.recompute_share, 2, pick),
      resample: pickGroups(sizes, tolerance.resample_share, 1, pick),
      ...(input.signal === undefined ? {} : { signal: input.signal }),
    })
  } catch (error) {
    if (error instanceof GspoError && (error.code === 'BAD_TRACE' || error.code === 'NON_FINITE')) {
      return rejected([checked('trace_form', error.message, '')])
    }
    if (error instanceof GspoError && (error.code === 'BAD_STATE' || error.code === 'BAD_SAFETENSORS')) {
      return rejected([checked('base_state', error.message, '')])
    }
    throw error
  }
  const stateAfter = await trainer.exportState()
  const after = await trainer.readAdapter()
  const seconds = (performance.now() - started) / 1000
  const pairs: StepPairs = trace.steps.flatMap((traced, at) => {
    const step = replayed[at]
    return step === undefined ? [] : [{ traced, replayed: step }]
  })
  const difference = after.map((value, i) => value - (files.base.adapter[i] ?? 0))
  const { comparison, adapterChecks } = compareDelta(difference, files, input, trainer, tolerance, () =>
    stateAfterFault(after, stateAfter, metadata),
  )
  checks.push(
    checked('trace_form', null, `${trace.steps.length} well-formed steps`),
    positionsCheck(pairs),
    tokensCheck(pairs, tolerance),
    samplingCheck(pairs, job, tolerance),
    resamplingCheck(pairs, tolerance),
    rewardsCheck(pairs, tolerance),
    metadataCheck(metadata, pairs, input.expected?.weight, tolerance),
    ...adapterChecks,
  )
  return { checks, comparison, stateAfter, seconds }
}

function pickFresh(below: number): number {
  return randomInt(below)
}

/**
 * A share of all the round's groups, at least `least` unless the share is 0, drawn without the worker's knowledge; for
 * each step the indices of its groups.
 */
function pickGroups(
  sizes: readonly number[],
  share: number,
  least: number,
  pick: (below: number) => number,
): number[][] {
  const chosen = sizes.map((): number[] => [])
  const left = sizes.flatMap((size, step) => Array.from({ length: size }, (_, group) => ({ step, group })))
  const count = share === 0 ? 0 : Math.max(least, Math.round(share * left.length))
  for (let done = 0; done < count && left.length > 0; done += 1) {
    for (const { step, group } of left.splice(pick(left.length), 1)) chosen[step]?.push(group)
  }
  return chosen
}

/** The claimed delta beside the replayed difference: the checks `adapter` and `residual_after`. */
function compareDelta(
  difference: Float32Array,
  { tensors, residual, metadata }: ReadFiles,
  input: ReplayInput,
  trainer: Trainer,
  tolerance: ReplayConfig,
  stateAfterFaultOf: () => string | null,
): { comparison: AdapterComparison | null; adapterChecks: Check[] } {
  const { adapterLayout } = trainer.info
  if (!hasLayout(tensors, adapterLayout))
    return { comparison: null, adapterChecks: [adapterCheck(null, null, tolerance)] }
  try {
    const stored = storedAs(difference, residual, tensors)
    const comparison = compareAdapters(tensors, difference, stored, adapterLayout)
    const differenceNorm = Math.sqrt(difference.reduce((sum, value) => sum + value * value, 0))
    const adapterChecks = [
      adapterCheck(comparison, stateAfterFaultOf(), tolerance),
      residualAfterCheck(metadata, tensors, stored, differenceNorm, input.residual?.after, {
        error: tolerance.max_adapter_error,
        isIdentityRequired: tolerance.require_identical,
      }),
    ]
    return { comparison, adapterChecks }
  } catch (error) {
    if (!isStorageFault(error)) throw error
    return {
      comparison: null,
      adapterChecks: [checked('adapter', `the replayed delta: ${error.message}`, '')],
    }
  }
}

/** Whether the states after the steps are the claimed ones; meaningful when the delta itself is bit-identical. */
function stateAfterFault(
  after: Float32Array,
  stateAfter: Uint8Array,
  metadata: DeltaMetadata,
): string | null {
  const hex = (bytes: Uint8Array): string => Buffer.from(sha3_256(bytes)).toString('hex')
  const adapterSha3 = hex(new Uint8Array(after.buffer, after.byteOffset, after.byteLength))
  if (adapterSha3 !== metadata.state_after)
    return `the delta holds, but state_after is ${metadata.state_after}, replayed ${adapterSha3}`
  const claimed = metadata.extra?.['trainer_state_after']
  const stateSha3 = hex(stateAfter)
  if (claimed === undefined || claimed === stateSha3) return null
  return `the delta holds, but the trainer's state after is claimed as ${JSON.stringify(claimed)}, replayed ${stateSha3}`
}
