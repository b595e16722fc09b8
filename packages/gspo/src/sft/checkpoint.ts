/** The file that a supervised run goes on from, and what makes two runs the same run. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GspoError } from '../errors.ts'
import type { FullLayout } from '../full-model.ts'
import type { Sequence } from '../rollout/token-batch.ts'
import type { ResolvedSftConfig } from './config.ts'
import { makeFolder, replaceFile } from './files.ts'
import { decodeSftState, encodeSftState, type SftRecipe, type SftState } from './state.ts'

const FILE = 'sft-state.safetensors'

/** Settings that may differ between the parts of an interrupted run: where things are, and how many threads compute. */
const FREE = ['model', 'dataset', 'eval_dataset', 'eval_limit', 'output_dir', 'checkpoint_dir', 'threads']

/** The recipe of a run: its other settings, and hashes of the model's config.json and of the rows as tokens. */
export async function recipeOf(
  config: ResolvedSftConfig,
  rows: { training: readonly Sequence[]; held: readonly Sequence[] },
): Promise<SftRecipe> {
  const settings = Object.entries(config).filter(([key]) => !FREE.includes(key))
  return {
    ...Object.fromEntries(
      settings.map(([key, value]) => [key, Array.isArray(value) ? value.join('\n') : (value ?? null)]),
    ),
    model: sha256([await readFile(join(config.model, 'config.json'))]),
    dataset: sha256(rows.training.map(bytesOf)),
    eval_dataset: sha256(rows.held.map(bytesOf)),
  }
}

/** The state to go on from, or null where no run has left one. Throws GspoError BAD_STATE or BAD_SAFETENSORS. */
export async function readSftCheckpoint(
  dir: string,
  recipe: SftRecipe,
  layout: FullLayout,
): Promise<SftState | null> {
  const path = join(dir, FILE)
  let bytes: Uint8Array
  try {
    bytes = await readFile(path)
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return null
    throw new GspoError('BAD_STATE', `cannot read ${path}`, { cause })
  }
  return decodeSftState(bytes, recipe, layout)
}

/** Replaces the checkpoint; it is on disk when this resolves. Throws GspoError FILE_UNWRITABLE. */
export async function writeSftCheckpoint(dir: string, state: SftState, recipe: SftRecipe): Promise<void> {
  await makeFolder(dir)
  await replaceFile(join(dir, FILE), encodeSftState(state, recipe))
}

function bytesOf({ promptIds, tokens }: Sequence): Uint8Array {
  return new Uint8Array(Int32Array.of(promptIds.length, ...promptIds, tokens.length, ...tokens).buffer)
}

function sha256(parts: readonly Uint8Array[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}
