/** PEFT folders from deltas (`delta export`, `delta apply`) and deltas from PEFT folders (`delta import`). */

import type { DeltaCompression, DeltaDtype, DeltaMetadata, Identity } from '@gym-node/wire'
import { NodeError } from '../errors.ts'
import { addScaled, adapterSha3, elementsOf, flatten, type Adapter } from './adapter.ts'
import { readDeltaFile, refuseExisting, writeDeltaFile } from './delta-file.ts'
import { readBaseAdapter } from './base-adapter.ts'
import { readPeftFolder, writePeftFolder } from './peft-folder.ts'

/** What `applyDeltas` is asked. */
export interface ApplyOptions {
  /** Delta files, applied one after the other. */
  readonly deltas: readonly string[]
  /** PEFT folder or trainer state to start from; may be left out when the first delta holds a whole adapter. */
  readonly base?: string
  /** Factor on every difference; 1 when left out. */
  readonly scale?: number
  /** PEFT folder to write; must not exist. */
  readonly out: string
  /** Apply a delta to an adapter that it was not made from. */
  readonly allowOtherBase?: boolean
}

/** What `applyDeltas` did. */
export interface Applied {
  readonly out: string
  readonly elements: number
  readonly deltas: number
  /** SHA3-256 of the adapter written, as in `state_after`. */
  readonly adapterSha3: string
}

/**
 * Writes base + scale * deltas as a PEFT folder. A delta says which adapter it was made from; another base is refused
 * with NodeError BAD_ADAPTER unless allowed. Only the first delta is held to that: the next ones stack.
 */
export async function applyDeltas(options: ApplyOptions): Promise<Applied> {
  const { deltas, base, scale = 1, out, allowOtherBase = false } = options
  await refuseExisting(out)
  let adapter: Adapter | null = null
  let baseModel = ''
  for (const [at, path] of deltas.entries()) {
    const delta = await readDeltaFile(path)
    baseModel = delta.metadata.base_model.id
    if (delta.metadata.content === 'adapter') {
      if (at > 0 || base !== undefined) {
        throw new NodeError(
          'BAD_ADAPTER',
          `${path} holds a whole adapter, not a difference: it cannot be added to another`,
        )
      }
      adapter = delta.adapter
      continue
    }
    adapter ??= await readBaseAdapter(requireBase(base, path), delta.adapter)
    if (at === 0 && !allowOtherBase) checkBase(adapter, delta.metadata, path)
    adapter = addScaled(adapter, delta.adapter, scale)
  }
  if (adapter === null) throw new NodeError('USAGE', 'no delta file was given')
  await writePeftFolder(out, adapter, baseModel)
  return {
    out,
    elements: elementsOf(adapter),
    deltas: deltas.length,
    adapterSha3: adapterSha3(flatten(adapter)),
  }
}

function requireBase(base: string | undefined, path: string): string {
  if (base !== undefined) return base
  throw new NodeError(
    'USAGE',
    `${path} holds a difference: name the adapter it starts from with --base (a PEFT folder or a state file)`,
  )
}

function checkBase(adapter: Adapter, metadata: DeltaMetadata, path: string): void {
  const seen = adapterSha3(flatten(adapter))
  if (seen !== metadata.state_before) {
    throw new NodeError(
      'BAD_ADAPTER',
      `${path} was made from adapter ${metadata.state_before}, the base given is ${seen}; use the adapter of round ${metadata.round - 1}`,
    )
  }
}

/** What `importAdapter` is asked. */
export interface ImportOptions {
  /** PEFT folder. */
  readonly dir: string
  /** Delta file to write; must not exist. */
  readonly out: string
  readonly job: string
  /** The model the adapter is for: its name, and SHA-256 over its weight files. */
  readonly baseModel: { readonly id: string; readonly sha256: string }
  readonly dtype: DeltaDtype
  readonly compression: DeltaCompression
  /** Signs the file; without it the file is unsigned and names nobody. */
  readonly identity?: Identity
  readonly now: Date
}

/** Writes a PEFT folder as a DELTA file with `content: adapter`; returns the file's bytes. */
export async function importAdapter(options: ImportOptions): Promise<number> {
  const { dir, out, job, baseModel, dtype, compression, identity, now } = options
  const adapter = await readPeftFolder(dir)
  const after = adapterSha3(flatten(adapter))
  const metadata: DeltaMetadata = {
    worker_id: identity?.peerId ?? 'import',
    job,
    view: 'import',
    epoch: 0,
    round: 0,
    sequence: 0,
    step_first: 0,
    step_last: 0,
    timestamp: now.toISOString(),
    loss: null,
    reward_mean: null,
    base_model: baseModel,
    state_before: adapterSha3(new Float32Array(elementsOf(adapter))),
    state_after: after,
    trace_sha3_256: null,
    attestation: { type: 'none' },
    binding: null,
    content: 'adapter',
    lora: adapter.lora,
  }
  const file = { metadata, matrices: adapter.matrices, dtype, compression }
  return writeDeltaFile(out, identity === undefined ? file : { ...file, identity })
}
