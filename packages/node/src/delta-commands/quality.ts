/** `delta quality`: the deltas of one round against each other and, with a held-out set, against the base. */
import { spawnTrainer, type ResolvedConfig } from '@gym-node/gspo'
import { loadConfig } from '../config/load.ts'
import { trainerSettings } from '../config/trainer-settings.ts'
import { flatten, layoutDifference, type Adapter } from '../delta-tools/adapter.ts'
import { readBaseAdapter } from '../delta-tools/base-adapter.ts'
import { readDeltaFile, type DeltaFile } from '../delta-tools/delta-file.ts'
import { NodeError } from '../errors.ts'
import { judgeRound, tryDeltas, type RoundDelta } from '../validate/quality.ts'
import { qualityConfigSchema, type QualityConfig } from '../validate/quality-config.ts'

/** Flags of the command. */
export interface QualityFlags {
  readonly config?: string
  readonly heldOut?: string
  readonly base?: string
  readonly model?: string
  readonly json?: boolean
}

/** The verdicts, one for each file in the order given. Throws NodeError and WireError on files that cannot be read. */
export async function qualityCommand(
  files: readonly string[],
  flags: QualityFlags,
  signal: AbortSignal,
): Promise<{ ok: boolean; text: string }> {
  const deltas = await Promise.all(files.map(readDeltaFile))
  const first = deltas[0]
  if (first === undefined) throw new NodeError('USAGE', 'no delta file was given')
  refuseOtherRounds(deltas, files)
  const job = flags.config === undefined ? null : await readJob(flags.config)
  const config = job?.thresholds ?? qualityConfigSchema.parse({})
  const round = deltas.map((delta): RoundDelta => ({
    workerId: delta.metadata.worker_id,
    values: flatten(delta.adapter),
  }))
  const trials =
    flags.heldOut === undefined
      ? []
      : await tryOnHeldOut(first.adapter, round, { ...flags, heldOut: flags.heldOut }, job, signal)
  const verdicts = judgeRound(round, spansOf(first.adapter), config).map((verdict, index) => {
    const trial = trials[index]
    const checks = trial === undefined ? verdict.checks : [...verdict.checks, trial]
    return {
      file: files[index] ?? '',
      worker_id: verdict.workerId,
      ok: checks.every(({ ok }) => ok !== false),
      checks,
    }
  })
  const ok = verdicts.every((verdict) => verdict.ok)
  if (flags.json === true)
    return { ok, text: verdicts.map((verdict) => `${JSON.stringify(verdict)}\n`).join('') }
  const text = verdicts.map((verdict) => {
    const lines = verdict.checks.map(
      ({ name, ok: holds, detail }) =>
        `  ${holds === null ? '-     ' : holds ? 'ok    ' : 'FAILED'} ${name.padEnd(16)} ${detail}`,
    )
    return [
      `${verdict.file}: ${verdict.ok ? 'accepted' : 'REJECTED'}, by ${verdict.worker_id}`,
      ...lines,
      '',
    ].join('\n')
  })
  return { ok, text: text.join('') }
}

/** Deltas of different rounds, jobs or adapters say nothing about each other. Throws NodeError USAGE or BAD_ADAPTER. */
function refuseOtherRounds(deltas: readonly DeltaFile[], files: readonly string[]): void {
  const [first, ...others] = deltas
  if (first === undefined) return
  const nameOf = ({ metadata }: DeltaFile): string => `round ${metadata.round} of job ${metadata.job}`
  others.forEach((delta, at) => {
    const [left = '', right = ''] = [files[0], files[at + 1]]
    if (nameOf(delta) !== nameOf(first)) {
      throw new NodeError(
        'USAGE',
        `${right} is of ${nameOf(delta)}, ${left} of ${nameOf(first)}: give the deltas of one round`,
      )
    }
    const fault = layoutDifference(first.adapter, delta.adapter)
    if (fault !== null) throw new NodeError('BAD_ADAPTER', `${left} and ${right} do not fit: ${fault}`)
  })
}

/** What a configuration says of the job: how it trains, and when a delta is suspect. */
interface Job {
  readonly train: ResolvedConfig
  readonly thresholds: QualityConfig
}

async function readJob(file: string): Promise<Job> {
  const { config } = await loadConfig({ file, env: {}, flags: new Map(), cwd: process.cwd() })
  return { train: trainerSettings(config), thresholds: config.validator.quality }
}

async function tryOnHeldOut(
  like: Adapter,
  round: readonly RoundDelta[],
  flags: QualityFlags & { readonly heldOut: string },
  job: Job | null,
  signal: AbortSignal,
): ReturnType<typeof tryDeltas> {
  const model = flags.model ?? job?.train.model
  const dataset = flags.heldOut
  if (flags.base === undefined || model === undefined || like.lora === null) {
    throw new NodeError(
      'USAGE',
      '--held-out needs --base, the adapter that the deltas start from, and --config or --model',
    )
  }
  const { rank, alpha, use_rslora: useRslora, target_modules: targets } = like.lora
  const lora = {
    lora_rank: rank,
    lora_alpha: alpha,
    use_rslora: useRslora,
    lora_targets: targets as ['q_proj'],
  }
  const base = flags.base
  const trainer = await spawnTrainer({ ...job?.train, model, dataset, ...lora }, { signal })
  try {
    const baseAdapter = flatten(await readBaseAdapter(base, like))
    const thresholds = job?.thresholds ?? qualityConfigSchema.parse({})
    return await tryDeltas(round, { trainer, baseAdapter, dataset, signal }, thresholds)
  } finally {
    await trainer.close()
  }
}

function spansOf(adapter: Adapter): { name: string; offset: number; length: number }[] {
  let offset = 0
  return adapter.matrices.map(({ name, values }) => {
    const span = { name, offset, length: values.length }
    offset += values.length
    return span
  })
}
