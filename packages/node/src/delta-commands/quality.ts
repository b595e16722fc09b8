/** `delta quality`: the deltas of one round against each other and, with a held-out set, against the base. */
import { spawnTrainer } from '@gym-node/gspo'
import { flatten, type Adapter } from '../delta-tools/adapter.ts'
import { readBaseAdapter } from '../delta-tools/base-adapter.ts'
import { readDeltaFile } from '../delta-tools/delta-file.ts'
import { NodeError } from '../errors.ts'
import { judgeRound, tryDeltas, type RoundDelta } from '../validate/quality.ts'
import { qualityConfigSchema } from '../validate/quality-config.ts'

/** Flags of the command. */
export interface QualityFlags {
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
  const config = qualityConfigSchema.parse({})
  const round = deltas.map((delta): RoundDelta => ({
    workerId: delta.metadata.worker_id,
    values: flatten(delta.adapter),
  }))
  const trials =
    flags.heldOut === undefined ? [] : await tryOnHeldOut(first.adapter, round, flags, flags.heldOut, signal)
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

async function tryOnHeldOut(
  like: Adapter,
  round: readonly RoundDelta[],
  flags: QualityFlags,
  dataset: string,
  signal: AbortSignal,
): ReturnType<typeof tryDeltas> {
  if (flags.base === undefined || flags.model === undefined || like.lora === null) {
    throw new NodeError(
      'USAGE',
      '--held-out needs --model, and --base: the adapter that the deltas start from',
    )
  }
  const { rank, alpha, use_rslora: useRslora, target_modules: targets } = like.lora
  const trainer = await spawnTrainer(
    {
      model: flags.model,
      dataset,
      lora_rank: rank,
      lora_alpha: alpha,
      use_rslora: useRslora,
      lora_targets: targets as ['q_proj'],
    },
    { signal },
  )
  try {
    const baseAdapter = flatten(await readBaseAdapter(flags.base, like))
    return await tryDeltas(round, { trainer, baseAdapter, dataset, signal }, qualityConfigSchema.parse({}))
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
