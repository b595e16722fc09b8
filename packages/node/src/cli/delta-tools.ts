/** The subcommands of `gym-node delta` that write files: export, apply, import, convert, merge; and diff. */
import { basename, resolve } from 'node:path'
import {
  DELTA_COMPRESSIONS,
  DELTA_DTYPES,
  type DeltaCompression,
  type DeltaDtype,
  type Identity,
} from '@gym-node/wire'
import { Option, type Command } from 'commander'
import type { diffPaths } from '../delta-tools/diff.ts'
import type { Applied } from '../delta-tools/export-import.ts'
import { NodeError } from '../errors.ts'
import { EXIT_CODES } from '../exit-codes.ts'
import { statePaths } from '../state/folder.ts'
import { loadIdentity } from '../state/identity-files.ts'
import { formatBytes, formatCount } from './format.ts'
import type { Outcome } from './outcome.ts'

interface ApplyFlags {
  readonly base?: string
  readonly out: string
  readonly scale?: string
  readonly allowOtherBase?: boolean
}

interface StoreFlags {
  readonly out: string
  readonly dtype: DeltaDtype
  readonly compression: DeltaCompression
  readonly stateDir?: string
}

/** Adds the subcommands to `delta`. */
export function addDeltaTools(delta: Command, outcome: Outcome): void {
  const out = (what: string): Option => new Option('--out <path>', what).makeOptionMandatory()
  delta
    .command('export')
    .description('write a delta, on the adapter it starts from, as a PEFT adapter folder')
    .argument('<file>', 'delta file')
    .option('--base <path>', 'adapter before the round: a PEFT folder or a state file')
    .addOption(out('folder to write'))
    .action(async (file: string, flags: ApplyFlags) => {
      const { applyDeltas } = await import('../delta-tools/export-import.ts')
      report(
        await applyDeltas({
          deltas: [file],
          ...(flags.base === undefined ? {} : { base: flags.base }),
          out: flags.out,
        }),
      )
    })
  delta
    .command('apply')
    .description('add deltas to an adapter and write a PEFT adapter folder')
    .argument('<file...>', 'delta files, applied in this order')
    .option('--base <path>', 'adapter to start from: a PEFT folder or a state file')
    .option('--scale <factor>', 'factor on every delta', '1')
    .option('--allow-other-base', 'apply a delta to an adapter that it was not made from')
    .addOption(out('folder to write'))
    .action(async (files: string[], flags: ApplyFlags) => {
      const { applyDeltas } = await import('../delta-tools/export-import.ts')
      report(
        await applyDeltas({
          deltas: files,
          ...(flags.base === undefined ? {} : { base: flags.base }),
          scale: finite('--scale', flags.scale ?? '1'),
          out: flags.out,
          allowOtherBase: flags.allowOtherBase === true,
        }),
      )
    })
  addStoreOptions(delta.command('import'))
    .description('write a PEFT adapter folder as a delta file')
    .argument('<folder>', 'PEFT adapter folder')
    .addOption(new Option('--model <folder>', 'model that the adapter is for').makeOptionMandatory())
    .option('--job <name>', 'job to name in the file', 'default')
    .addOption(out('delta file to write'))
    .action(async (folder: string, flags: StoreFlags & { model: string; job: string }) => {
      const { modelSha256 } = await import('@gym-node/gspo')
      const { importAdapter } = await import('../delta-tools/export-import.ts')
      const baseModel = { id: basename(resolve(flags.model)), sha256: await modelSha256(flags.model) }
      const { job, dtype, compression } = flags
      const bytes = await importAdapter({
        dir: folder,
        out: flags.out,
        job,
        baseModel,
        dtype,
        compression,
        now: new Date(),
        ...(await signer(flags)),
      })
      process.stdout.write(`${flags.out}: ${formatBytes(bytes)}\n`)
    })
  addStoreOptions(delta.command('convert'))
    .description('write a delta in another number format or compression; its signatures do not carry over')
    .argument('<file>', 'delta file')
    .addOption(out('delta file to write'))
    .action(async (file: string, flags: StoreFlags) => {
      const { convertDelta } = await import('../delta-tools/convert.ts')
      const { out: path, dtype, compression } = flags
      const converted = await convertDelta({
        input: file,
        out: path,
        dtype,
        compression,
        ...(await signer(flags)),
      })
      process.stdout.write(
        `${path}: ${formatBytes(converted.bytes)}, relative error ${converted.relativeError.toPrecision(3)}, ${converted.isSigned ? 'signed' : 'not signed'}\n`,
      )
    })
  delta
    .command('merge')
    .description('write a model with an adapter merged into its weights')
    .addOption(new Option('--model <folder>', 'Hugging Face model folder').makeOptionMandatory())
    .addOption(new Option('--adapter <folder>', 'PEFT adapter folder').makeOptionMandatory())
    .addOption(out('folder to write'))
    .action(async (flags: { model: string; adapter: string; out: string }) => {
      const { mergeAdapter } = await import('../delta-tools/merge.ts')
      const { merged, bytes } = await mergeAdapter(flags)
      process.stdout.write(`${flags.out}: ${merged} weights changed, ${formatBytes(bytes)}\n`)
    })
  delta
    .command('diff')
    .description('compare two deltas or adapters; exit code 3 when they differ')
    .argument('<left>', 'delta file or PEFT folder')
    .argument('<right>', 'delta file or PEFT folder')
    .option('--json', 'print JSON')
    .action(async (left: string, right: string, flags: { json?: boolean }) => {
      const { diffPaths } = await import('../delta-tools/diff.ts')
      const difference = await diffPaths(left, right)
      if (!difference.isEqual) outcome.exitCode = EXIT_CODES.check_failed.code
      process.stdout.write(flags.json === true ? `${JSON.stringify(difference)}\n` : diffText(difference))
    })
}

function addStoreOptions(command: Command): Command {
  return command
    .addOption(new Option('--dtype <dtype>', 'number format').choices(DELTA_DTYPES).default('f32'))
    .addOption(
      new Option('--compression <method>', 'compression').choices(DELTA_COMPRESSIONS).default('zstd'),
    )
    .option('--state-dir <folder>', 'sign with the identity of this state folder')
}

async function signer(flags: StoreFlags): Promise<{ identity?: Identity }> {
  return flags.stateDir === undefined
    ? {}
    : { identity: await loadIdentity(statePaths(flags.stateDir).identity) }
}

function report({ out, elements, deltas, adapterSha3 }: Applied): void {
  process.stdout.write(
    `${out}: ${formatCount(elements)} numbers from ${deltas} ${deltas === 1 ? 'delta' : 'deltas'}, adapter SHA3-256 ${adapterSha3}\n`,
  )
}

function diffText({ isEqual, layout, total, tensors }: Awaited<ReturnType<typeof diffPaths>>): string {
  if (isEqual) return 'equal\n'
  if (layout !== null) return `not comparable: ${layout}\n`
  const line = (name: string, d: NonNullable<typeof total>): string =>
    `${name}  ${formatCount(d.differing)} of ${formatCount(d.elements)} differ, norm ${d.differenceNorm.toPrecision(4)}, largest ${d.maxAbsolute.toPrecision(4)}, cosine ${d.cosine.toFixed(6)}`
  const rows = tensors
    .filter(({ differing }) => differing > 0)
    .map((tensor) => `  ${line(tensor.name, tensor)}`)
  return `${[...(total === null ? [] : [line('all', total)]), ...rows].join('\n')}\n`
}

function finite(flag: string, text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value))
    throw new NodeError('USAGE', `${flag} is "${text}", expected a number`)
  return value
}
