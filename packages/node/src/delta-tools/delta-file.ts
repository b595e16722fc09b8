/** DELTA files: written tensor by tensor, read whole for the tool that compares several at once (others: delta-cursor.ts). A signed file must verify before anything is done with it. */

import { readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { decodeDeltaBuffer, encodeDelta, verifyDelta } from '@gym-node/wire'
import type { DeltaCompression, DeltaDtype, DeltaMetadata, DeltaTensorSource, Identity } from '@gym-node/wire'
import { NodeError } from '../errors.ts'
import { writeFileDurably } from '../state/atomic.ts'
import { byName, type Adapter, type AdapterMatrix } from './adapter.ts'
import { MAX_TOOL_DELTA_BYTES } from './defaults.ts'

/** A delta file's content. */
export interface DeltaFile {
  readonly metadata: DeltaMetadata
  readonly adapter: Adapter
  readonly dtypes: ReadonlyMap<string, DeltaDtype>
  /** SHA3-256 over the body, hex. */
  readonly bodySha3: string
  readonly isSigned: boolean
}

/**
 * Reads a delta file. Throws NodeError FILE_NOT_FOUND or FILE_UNREADABLE, or VERIFY_FAILED when it is signed and a signature, the binding
 * or the worker's name does not hold; WireError on bytes that are no DELTA file.
 */
export async function readDeltaFile(path: string): Promise<DeltaFile> {
  const size = await requireDeltaFile(path)
  if (size > MAX_TOOL_DELTA_BYTES) {
    throw new NodeError(
      'BAD_ADAPTER',
      `${path} is ${size} bytes, delta quality holds up to ${MAX_TOOL_DELTA_BYTES} in memory`,
    )
  }
  const bytes = await readFile(path)
  const delta = await decodeDeltaBuffer(bytes)
  const matrices: AdapterMatrix[] = []
  const dtypes = new Map<string, DeltaDtype>()
  for await (const { name, shape, values, dtype } of delta.tensors()) {
    matrices.push({ name, shape, values })
    dtypes.set(name, dtype)
  }
  const verdict = await verifyDelta([bytes])
  const failed = verdict.checks.find(({ ok }) => !ok)
  if (delta.header.isSigned && failed !== undefined) {
    throw new NodeError(
      'VERIFY_FAILED',
      `${path} is signed, but ${failed.name} does not hold: ${failed.detail}`,
    )
  }
  return {
    metadata: delta.metadata,
    adapter: { matrices: matrices.sort(byName), lora: delta.metadata.lora ?? null },
    dtypes,
    bodySha3: Buffer.from(verdict.bodySha3 ?? new Uint8Array(0)).toString('hex'),
    isSigned: delta.header.isSigned,
  }
}

/** The size of the delta file at `path`, bytes. Throws NodeError FILE_NOT_FOUND or FILE_UNREADABLE. */
export async function requireDeltaFile(path: string): Promise<number> {
  const found = await stat(path).catch((cause: unknown) => {
    throw new NodeError('FILE_NOT_FOUND', `there is no delta file ${path}`, { cause })
  })
  if (!found.isFile()) throw new NodeError('FILE_UNREADABLE', `${path} is not a file`)
  return found.size
}

/** What `writeDeltaFile` writes. */
export interface DeltaToFile {
  readonly metadata: DeltaMetadata
  /** Their values, or how to get them, in passes over all in order. */
  readonly matrices: readonly (Omit<AdapterMatrix, 'values'> & Pick<DeltaTensorSource, 'values'>)[]
  readonly dtype: DeltaDtype
  readonly compression: DeltaCompression
  /** Signs; must be the worker that the metadata names. */
  readonly identity?: Identity
}

/** Writes a delta file durably; returns its bytes. Throws NodeError OUTPUT_EXISTS, or FILE_NOT_FOUND without its folder. */
export async function writeDeltaFile(path: string, delta: DeltaToFile): Promise<number> {
  await refuseExisting(path)
  const folder = dirname(resolve(path))
  await stat(folder).catch((cause: unknown) => {
    throw new NodeError('FILE_NOT_FOUND', `there is no folder ${folder} to write in`, { cause })
  })
  const { metadata, matrices, dtype, compression, identity } = delta
  const tensors = matrices.map((matrix) => ({ ...matrix, dtype }))
  const input = { metadata, tensors, compression }
  return writeFileDurably(
    path,
    encodeDelta(identity === undefined ? input : { ...input, signers: identity }),
    0o644,
  )
}

/** Throws NodeError OUTPUT_EXISTS when something is at `path`. */
export async function refuseExisting(path: string): Promise<void> {
  const found = await stat(path).catch(() => null) // absent is what is wanted
  if (found !== null) throw new NodeError('OUTPUT_EXISTS', `${path} exists already`)
}
