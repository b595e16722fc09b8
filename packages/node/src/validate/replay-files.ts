/**
 * The checks of a replay that need no engine: is the delta what was signed, does the trace belong to it, does the base
 * state fit both, are the claims of round, steps and settings consistent. Pure but for hashing and signatures.
 */

import { decodeSafetensors, decodeTrace, GspoError, resolveConfig } from '@gym-node/gspo'
import type { DecodedTrace, ResolvedConfig } from '@gym-node/gspo'
import { decodeDeltaBuffer, sha3_256, verifyAttestation, verifyDelta, WireError } from '@gym-node/wire'
import type { DeltaMetadata, DeltaTensor, DeltaVerdict } from '@gym-node/wire'
import { byName } from '../delta-tools/adapter.ts'
import { checked, short, unchecked, type CheckResult } from './checks.ts'
import { configDifferences } from './job-config.ts'
import { residualBefore } from './replay-residual.ts'
import type { ReplayCheckName, ReplayExpectations, ReplayInput } from './replay-types.ts'

type Check = CheckResult<ReplayCheckName>

/** The three files, as far as they could be read. */
export interface OpenedFiles {
  readonly checks: Check[]
  /** Null when a file could not be read; then `checks` says which. */
  readonly files: ReadFiles | null
  readonly metadata: DeltaMetadata | null
}

/** The three files, read. */
export interface ReadFiles {
  readonly metadata: DeltaMetadata
  readonly tensors: readonly DeltaTensor[]
  readonly trace: DecodedTrace
  readonly traced: ResolvedConfig
  readonly base: BaseState
  /** What earlier deltas have left over and this one sends; null for nothing. */
  readonly residual: Float32Array | null
}

/** A trainer state as far as checks need it. */
export interface BaseState {
  readonly adapter: Float32Array
  readonly firstMoment: Float32Array
  readonly secondMoment: Float32Array
  readonly step: number
}

function hexSha3(bytes: Uint8Array): string {
  return Buffer.from(sha3_256(bytes)).toString('hex')
}

function floatBytes(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** Reads what checks need from `exportState` bytes. Throws GspoError. */
export function readBaseState(bytes: Uint8Array): BaseState {
  const { tensors, metadata } = decodeSafetensors(bytes, 'base state')
  const floats = (name: string): Float32Array => {
    const values = tensors.get(name)?.values
    if (values instanceof Float32Array) return values
    throw new GspoError(
      'BAD_STATE',
      `base state: tensor ${name} is missing or not float32; it is no trainer state`,
    )
  }
  return {
    adapter: floats('adapter'),
    firstMoment: floats('adam.first_moment'),
    secondMoment: floats('adam.second_moment'),
    step: Number(metadata['step'] ?? NaN),
  }
}

/** `work`'s result, or the message of a WireError or GspoError it threw. */
async function readable<T>(work: () => T | Promise<T>): Promise<{ value: T } | { fault: string }> {
  try {
    return { value: await work() }
  } catch (error) {
    if (error instanceof WireError || error instanceof GspoError)
      return { fault: `${error.code}: ${error.message}` }
    throw error
  }
}

function signatureChecks(verdict: DeltaVerdict, expected: ReplayExpectations): Check[] {
  const failed = (names: readonly string[]): string | null => {
    const bad = verdict.checks.filter(({ name, ok }) => !ok && names.includes(name))
    return bad.length === 0 ? null : bad.map(({ name, detail }) => `${name}: ${detail}`).join('; ')
  }
  const checks: Check[] = [
    checked(
      'signature',
      failed(['format', 'checksum', 'ed25519', 'ml_dsa_87']),
      'Ed25519 and ML-DSA-87 hold',
    ),
    checked(
      'binding',
      failed(['binding', 'worker_id']),
      `keys and worker are one: ${verdict.metadata?.worker_id ?? ''}`,
    ),
  ]
  const { attestation: policy } = expected
  if (policy === undefined || verdict.metadata === null) {
    checks.push(unchecked('attestation', 'no attestation was demanded'))
  } else {
    const { attestation } = verdict.metadata
    const answer = verifyAttestation(attestation, verdict.attestationDigest ?? new Uint8Array(0), policy)
    const bad = answer.checks.filter(({ ok }) => !ok).map(({ name, detail }) => `${name}: ${detail}`)
    checks.push(checked('attestation', bad.length === 0 ? null : bad.join('; '), attestation.type))
  }
  return checks
}

function expectedCheck(metadata: DeltaMetadata, bodySha3: string, expected: ReplayExpectations): Check {
  const wanted: readonly [string, string | number | undefined, string | number][] = [
    ['job', expected.job, metadata.job],
    ['round', expected.round, metadata.round],
    ['worker', expected.workerId, metadata.worker_id],
    ['body hash', expected.commitment, bodySha3],
  ]
  const wrong = wanted.filter(([, want, seen]) => want !== undefined && want !== seen)
  const fault = wrong.map(([what, want, seen]) => `${what} is ${seen}, asked for was ${want}`).join('; ')
  if (wanted.every(([, want]) => want === undefined))
    return unchecked('expected', 'nothing was asked for by name')
  return checked('expected', fault === '' ? null : fault, `job ${metadata.job}, round ${metadata.round}`)
}

function ownerCheck({ header }: DecodedTrace, metadata: DeltaMetadata, expected: ReplayExpectations): Check {
  const wrong: string[] = []
  const compare = (what: string, seen: string | number, wanted: string | number): void => {
    if (seen !== wanted) wrong.push(`${what} is ${seen} in the trace, ${wanted} in the delta`)
  }
  compare('worker', header.workerId, metadata.worker_id)
  compare('job', header.job, metadata.job)
  compare('round', header.round, metadata.round)
  const { seed } = resolveConfig(header.config)
  if (expected.seed !== undefined && seed !== expected.seed) {
    wrong.push(`seed is ${seed}, this worker's is ${expected.seed}`)
  }
  return checked(
    'trace_owner',
    wrong.length === 0 ? null : wrong.join('; '),
    `worker, job, round and seed ${seed}`,
  )
}

function baseCheck(files: ReadFiles, base: Uint8Array, expected: ReplayExpectations): Check {
  const { metadata, trace } = files
  const stateSha3 = hexSha3(base)
  const adapterSha3 = hexSha3(floatBytes(files.base.adapter))
  const wrong: string[] = []
  const compare = (what: string, seen: string, wanted: unknown): void => {
    if (seen !== wanted) wrong.push(`${what} is ${seen}, expected ${String(wanted)}`)
  }
  compare("the base state's hash in the trace", trace.header.stateBefore, stateSha3)
  compare("the base adapter's hash", adapterSha3, metadata.state_before)
  const claimed = metadata.extra?.['trainer_state_before']
  if (claimed !== undefined) compare("the base state's hash", stateSha3, claimed)
  const agreed = expected.adapterBefore === undefined ? [] : [expected.adapterBefore].flat()
  if (agreed.length > 0 && !agreed.includes(adapterSha3))
    wrong.push(`the adapter's hash is ${adapterSha3}, expected ${agreed.join(' or ')}`)
  const ground = expected.adapterBefore === undefined ? 'as the worker says' : 'as the ring agreed'
  return checked(
    'base_state',
    wrong.length === 0 ? null : wrong.join('; '),
    `adapter ${adapterSha3.slice(0, 16)}…, ${ground}`,
  )
}

/** |seen - wanted| / |wanted|; infinite for other lengths. */
function relativeError(seen: Float32Array, wanted: Float32Array): number {
  if (seen.length !== wanted.length) return Infinity
  let [error, squares] = [0, 0]
  for (const [i, value] of wanted.entries()) {
    error += ((seen[i] ?? 0) - value) ** 2
    squares += value * value
  }
  return error === 0 ? 0 : Math.sqrt(error / Math.max(squares, Number.MIN_VALUE))
}

/** The moments are those after the previous round: exactly, or as nearly as its own replay had to be. */
function optimizerCheck({ base }: ReadFiles, previous: Uint8Array | undefined, allowed: number): Check {
  if (previous === undefined) {
    return unchecked('optimizer_state', "the worker's previous round was not replayed here")
  }
  const before = readBaseState(previous)
  const errors = {
    first: relativeError(base.firstMoment, before.firstMoment),
    second: relativeError(base.secondMoment, before.secondMoment),
  }
  const worst = Math.max(errors.first, errors.second)
  const seen = `the moments differ from those after the previous round by ${short(errors.first)} and ${short(errors.second)} of their size`
  const fault = worst > allowed || Number.isNaN(worst) ? `${seen}, allowed ${allowed}` : null
  return checked('optimizer_state', fault, worst === 0 ? 'the moments go on from the previous round' : seen)
}

function stepsCheck({ metadata, trace, base }: ReadFiles): Check {
  const claimed = metadata.step_last - metadata.step_first + 1
  const seen = trace.steps.length
  const misnumbered = trace.steps.findIndex(({ step }, at) => step !== metadata.step_first + at)
  const fault = trace.truncated
    ? `the trace breaks off after ${seen} steps`
    : seen !== claimed
      ? `the delta claims ${claimed} steps (${metadata.step_first} to ${metadata.step_last}), the trace has ${seen}`
      : misnumbered >= 0
        ? `step ${misnumbered + 1} of the trace is number ${trace.steps[misnumbered]?.step}, expected ${metadata.step_first + misnumbered}`
        : metadata.step_first !== base.step + 1
          ? `the first step is ${metadata.step_first}, the base state is at step ${base.step}`
          : null
  return checked('steps', fault, `${seen} steps, ${metadata.step_first} to ${metadata.step_last}`)
}

/** Reads the files and makes every check that they allow. */
export async function openFiles(
  input: ReplayInput,
  job: ResolvedConfig,
  momentTolerance: number,
): Promise<OpenedFiles> {
  const { expected = {} } = input
  const verdict = await verifyDelta([input.delta])
  const checks = signatureChecks(verdict, expected)
  const { metadata } = verdict
  if (metadata === null || verdict.bodySha3 === null) return { checks, files: null, metadata }
  checks.push(expectedCheck(metadata, Buffer.from(verdict.bodySha3).toString('hex'), expected))
  const traceSha3 = hexSha3(input.trace)
  checks.push(
    checked(
      'trace_hash',
      traceSha3 === metadata.trace_sha3_256
        ? null
        : `the trace's hash is ${traceSha3}, the delta was signed over ${metadata.trace_sha3_256 ?? 'none'}`,
      traceSha3,
    ),
  )
  const read = await readable(() => decodeTrace(input.trace))
  if ('fault' in read)
    return { checks: [...checks, checked('trace_form', read.fault, '')], files: null, metadata }
  const trace = read.value
  const traced = resolveConfig(trace.header.config)
  checks.push(ownerCheck(trace, metadata, expected))
  const differences = configDifferences(job, traced)
  checks.push(checked('config', differences.length === 0 ? null : differences.join('; '), "the job's"))
  const base = await readable(() => readBaseState(input.base))
  if ('fault' in base)
    return { checks: [...checks, checked('base_state', base.fault, '')], files: null, metadata }
  const tensors: DeltaTensor[] = []
  for await (const tensor of (await decodeDeltaBuffer(input.delta)).tensors()) tensors.push(tensor)
  tensors.sort(byName)
  const residual = await residualBefore(metadata, tensors, input.residual ?? {})
  const files = { metadata, tensors, trace, traced, base: base.value, residual: residual.values }
  checks.push(
    baseCheck(files, input.base, expected),
    optimizerCheck(files, expected.previousState, momentTolerance),
    residual.check,
    stepsCheck(files),
  )
  return { checks, files, metadata }
}
