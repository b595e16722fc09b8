/**
 * An adapter read one matrix at a time, wherever it lies (PEFT folder, DELTA file, trainer state): tools hold one matrix
 * of each, whatever the adapter's size.
 */

import { sha3_256Stream, type DeltaLora } from '@gym-node/wire'
import { byName, type Adapter, type MatrixRecord } from './adapter.ts'
import type { DeltaCursor } from './delta-cursor.ts'

/** An open adapter, or a difference of two. */
export interface AdapterSource {
  /** Sorted by name in code-unit order. */
  readonly matrices: readonly MatrixRecord[]
  /** Null where the source does not say. */
  readonly lora: DeltaLora | null
  /** Values of the matrix at this place; quickest in order. Rejects with what reading the file throws. */
  readonly values: (at: number) => Promise<Float32Array>
  close(): Promise<void>
}

/** A DELTA file as a source; what opening a cursor checks has been checked. Closing it closes the cursor. */
export function deltaSource(cursor: DeltaCursor): AdapterSource {
  const sorted = cursor.records.map((record, place) => ({ ...record, place })).sort(byName)
  return {
    matrices: sorted,
    lora: cursor.metadata.lora ?? null,
    values: (at) => cursor.values(sorted[at]?.place ?? -1),
    close: () => cursor.close(),
  }
}

/** The whole adapter in memory; the source stays open. */
export async function readWhole({ matrices, lora, values }: AdapterSource): Promise<Adapter> {
  const read = []
  for (const [at, { name, shape }] of matrices.entries()) read.push({ name, shape, values: await values(at) })
  return { matrices: read, lora }
}

/** Elements of one matrix. */
export function elementsOfMatrix({ shape }: MatrixRecord): number {
  return shape.reduce((product, size) => product * size, 1)
}

/** SHA3-256 (hex) as `adapterSha3` gives it for the whole vector, in one pass. */
export async function sourceSha3({ matrices, values }: AdapterSource): Promise<string> {
  const hash = sha3_256Stream()
  for (const at of matrices.keys()) hash.update(bytesOf(await values(at)))
  return Buffer.from(hash.digest()).toString('hex')
}

/** The same of as many zeros. */
export function zerosSha3(matrices: readonly MatrixRecord[]): string {
  const hash = sha3_256Stream()
  for (const matrix of matrices) hash.update(new Uint8Array(4 * elementsOfMatrix(matrix)))
  return Buffer.from(hash.digest()).toString('hex')
}

/** The bytes of a vector as they are hashed and stored. */
export function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
