/** PEFT folders from deltas (`delta export`, `delta apply`) and deltas from PEFT folders (`delta import`). */

import { sha3_256Stream } from '@gym-node/wire'
import type { DeltaCompression, DeltaDtype, DeltaMetadata, Identity } from '@gym-node/wire'
import { NodeError } from '../errors.ts'
import { addScaled, layoutDifference } from './adapter.ts'
import {
  bytesOf,
  deltaSource,
  elementsOfMatrix,
  sourceSha3,
  zerosSha3,
  type AdapterSource,
} from './adapter-source.ts'
import { openBaseAdapter } from './base-adapter.ts'
import { DeltaCursor } from './delta-cursor.ts'
import { refuseExisting, writeDeltaFile } from './delta-file.ts'
import { openPeftFolder, writePeftFolder } from './peft-folder.ts'

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

/** The adapter to start from and the differences on it, all open. */
interface Stack {
  start: AdapterSource | null
  readonly differences: AdapterSource[]
  baseModel: string
}

/**
 * Writes base + scale * deltas as a PEFT folder, one matrix of each in memory at a time. A delta says which adapter it
 * was made from; another base is refused with NodeError BAD_ADAPTER unless allowed. Only the first delta is held to
 * that: the next ones stack.
 */
export async function applyDeltas(options: ApplyOptions): Promise<Applied> {
  const { deltas, scale = 1, out } = options
  await refuseExisting(out)
  await using closing = new AsyncDisposableStack()
  const stack: Stack = { start: null, differences: [], baseModel: '' }
  for (const at of deltas.keys()) await openDelta(options, at, stack, closing)
  const { start, differences } = stack
  if (start === null) throw new NodeError('USAGE', 'no delta file was given')
  const hash = sha3_256Stream()
  const { matrices } = start
  const lora = [start, ...differences].find((source) => source.lora !== null)?.lora ?? null
  const values = async (at: number): Promise<Float32Array> => {
    let sum = await start.values(at)
    for (const difference of differences) sum = addScaled(sum, await difference.values(at), scale)
    hash.update(bytesOf(sum))
    return sum
  }
  await writePeftFolder(out, { matrices, lora, values }, stack.baseModel)
  return {
    out,
    elements: matrices.reduce((all, matrix) => all + elementsOfMatrix(matrix), 0),
    deltas: deltas.length,
    adapterSha3: Buffer.from(hash.digest()).toString('hex'),
  }
}

/** Opens the delta at `at`, and with the first one what it starts from, and checks that they fit together. */
async function openDelta(
  { deltas, base, allowOtherBase = false }: ApplyOptions,
  at: number,
  stack: Stack,
  closing: AsyncDisposableStack,
): Promise<void> {
  const path = deltas[at] ?? ''
  const cursor = await DeltaCursor.open(path)
  const delta = deltaSource(cursor)
  closing.defer(() => delta.close())
  stack.baseModel = cursor.metadata.base_model.id
  if (cursor.metadata.content === 'adapter') {
    if (at > 0 || base !== undefined) {
      throw new NodeError(
        'BAD_ADAPTER',
        `${path} holds a whole adapter, not a difference: it cannot be added to another`,
      )
    }
    stack.start = delta
    return
  }
  if (stack.start === null) {
    stack.start = await openBaseAdapter(requireBase(base, path), delta)
    const { start } = stack
    closing.defer(() => start.close())
  }
  if (at === 0 && !allowOtherBase) await checkBase(stack.start, cursor.metadata, path)
  const fault = layoutDifference(stack.start, delta)
  if (fault !== null) throw new NodeError('BAD_ADAPTER', `base and delta do not fit: ${fault}`)
  stack.differences.push(delta)
}

function requireBase(base: string | undefined, path: string): string {
  if (base !== undefined) return base
  throw new NodeError(
    'USAGE',
    `${path} holds a difference: name the adapter it starts from with --base (a PEFT folder or a state file)`,
  )
}

async function checkBase(base: AdapterSource, metadata: DeltaMetadata, path: string): Promise<void> {
  const seen = await sourceSha3(base)
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

/** Writes a PEFT folder as a DELTA file with `content: adapter`, matrix by matrix; returns the file's bytes. */
export async function importAdapter(options: ImportOptions): Promise<number> {
  const { dir, out, job, baseModel, dtype, compression, identity, now } = options
  await using closing = new AsyncDisposableStack()
  const adapter = await openPeftFolder(dir)
  closing.defer(() => adapter.close())
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
    state_before: zerosSha3(adapter.matrices),
    state_after: await sourceSha3(adapter),
    trace_sha3_256: null,
    attestation: { type: 'none' },
    binding: null,
    content: 'adapter',
    lora: adapter.lora,
  }
  const matrices = adapter.matrices.map((matrix, at) => ({ ...matrix, values: () => adapter.values(at) }))
  const file = { metadata, matrices, dtype, compression }
  return await writeDeltaFile(out, identity === undefined ? file : { ...file, identity })
}
