/** `delta replay`: recomputes a delta from its trace and says which of its claims hold. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { decodeTrace, type GSPOConfig } from '@gym-node/gspo'
import { loadConfig, type ConfigSources } from '../config/load.ts'
import { trainerSettings } from '../config/trainer-settings.ts'
import { errnoOf, messageOf, NodeError } from '../errors.ts'
import { replayDelta } from '../validate/replay.ts'
import type { ResidualFiles } from '../validate/replay-types.ts'
import type { ReplayVerdict } from '../validate/replay-types.ts'
import { workerSeed } from '../validate/worker-seed.ts'

/** Flags of the command. */
export interface ReplayFlags {
  readonly trace: string
  readonly base: string
  readonly residual?: string
  readonly residualAfter?: string
  readonly previous?: string
  readonly config?: string
  readonly model?: string
  readonly data?: readonly string[]
  readonly round?: string
  readonly worker?: string
  readonly baseSha3?: string
  readonly strict?: boolean
  readonly json?: boolean
}

/** The verdict and its report. Throws for failures of this side only: files, model, engine. */
export async function replayCommand(
  file: string,
  flags: ReplayFlags,
  signal: AbortSignal,
): Promise<{ ok: boolean; text: string }> {
  checkFlags(flags)
  const [delta, trace, base] = await Promise.all([
    readNamed(file),
    readNamed(flags.trace),
    readNamed(flags.base),
  ])
  const { config, isOwnClaim, hasWorkerSeeds } = await jobConfig(flags, trace)
  const worker = flags.worker
  const verdict = await replayDelta({
    delta,
    trace,
    base,
    residual: await residualFiles(flags),
    config,
    expected: {
      ...(flags.round === undefined ? {} : { round: Number(flags.round) }),
      ...(worker === undefined ? {} : { workerId: worker }),
      ...(worker === undefined || !hasWorkerSeeds ? {} : { seed: workerSeed(worker) }),
      ...(flags.baseSha3 === undefined ? {} : { adapterBefore: flags.baseSha3 }),
    },
    ...(flags.strict === true ? { tolerance: { require_identical: true } } : {}),
    signal,
  })
  return {
    ok: verdict.ok,
    text: flags.json === true ? asJson(file, verdict, isOwnClaim) : asText(file, verdict, isOwnClaim),
  }
}

/** The files that are named about error feedback. */
async function residualFiles({ residual, residualAfter, previous }: ReplayFlags): Promise<ResidualFiles> {
  return {
    ...(residual === undefined ? {} : { before: await readNamed(residual) }),
    ...(residualAfter === undefined ? {} : { after: await readNamed(residualAfter) }),
    ...(previous === undefined ? {} : { previousDelta: await readNamed(previous) }),
  }
}

/** Throws NodeError USAGE for a round or hash that nothing could equal: a rejection would blame the worker for it. */
function checkFlags({ round, baseSha3 }: ReplayFlags): void {
  if (round !== undefined && !/^\d{1,15}$/.test(round))
    throw new NodeError('USAGE', `--round is "${round}", expected a whole number`)
  if (baseSha3 !== undefined && !/^[0-9a-f]{64}$/.test(baseSha3))
    throw new NodeError('USAGE', `--base-sha3 is "${baseSha3}", expected 64 lower-case hexadecimal digits`)
}

/** The job's settings: those of a configuration file, or, for want of one, those that the trace itself claims. */
async function jobConfig(
  flags: ReplayFlags,
  trace: Uint8Array,
): Promise<{ config: GSPOConfig; isOwnClaim: boolean; hasWorkerSeeds: boolean }> {
  const model = flags.model === undefined ? {} : { model: resolve(flags.model) }
  const [first, ...rest] = (flags.data ?? []).map((path) => resolve(path))
  const dataset: Pick<GSPOConfig, 'dataset'> | object =
    first === undefined ? {} : { dataset: [first, ...rest] }
  if (flags.config !== undefined) {
    const sources: ConfigSources = { file: flags.config, env: {}, flags: new Map(), cwd: process.cwd() }
    const { config } = await loadConfig(sources)
    return {
      config: { ...trainerSettings(config), ...model, ...dataset },
      isOwnClaim: false,
      hasWorkerSeeds: config.train.seed === null,
    }
  }
  if (flags.model === undefined || first === undefined) {
    throw new NodeError(
      'USAGE',
      "name the job with --config, or this machine's copies with --model and --data",
    )
  }
  const claimed = decodeTrace(trace).header.config
  refuseForeignRewards(claimed)
  return { config: { ...claimed, ...model, ...dataset }, isOwnClaim: true, hasWorkerSeeds: false }
}

/** A stranger's trace must not choose a file to import or an address to call on this machine. */
function refuseForeignRewards({ rewards = [] }: GSPOConfig): void {
  for (const reward of rewards) {
    if ('module' in reward || reward.name === 'http') {
      throw new NodeError(
        'USAGE',
        "the trace names a reward of its worker's own; name the job with --config, so that yours is used",
      )
    }
  }
}

function asText(file: string, verdict: ReplayVerdict, isOwnClaim: boolean): string {
  const lines = verdict.checks.map(
    ({ name, ok, detail }) =>
      `  ${ok === null ? '-     ' : ok ? 'ok    ' : 'FAILED'} ${name.padEnd(16)} ${detail}`,
  )
  if (isOwnClaim)
    lines.push(
      '  the settings are the ones that the worker claims in its trace: name the job with --config to check them',
    )
  return [
    `${file}: ${verdict.ok ? 'accepted' : 'REJECTED'}, replayed in ${verdict.seconds.toFixed(1)} s`,
    ...lines,
    '',
  ].join('\n')
}

function asJson(file: string, verdict: ReplayVerdict, isOwnClaim: boolean): string {
  const { ok, checks, comparison, seconds } = verdict
  return `${JSON.stringify({ file, ok, settings_are_the_workers_claim: isOwnClaim, seconds, comparison, checks })}\n`
}

async function readNamed(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path)
  } catch (error) {
    const code = errnoOf(error) === 'ENOENT' ? 'FILE_NOT_FOUND' : 'FILE_UNREADABLE'
    throw new NodeError(code, `cannot read ${path}: ${messageOf(error)}`, { cause: error })
  }
}
