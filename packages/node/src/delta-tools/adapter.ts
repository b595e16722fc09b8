/** A LoRA adapter as the delta tools see it: named float32 matrices, and arithmetic over them. Pure. */

import { sha3_256, type DeltaLora } from '@gym-node/wire'
import { NodeError } from '../errors.ts'

/** What is known of a matrix without its values. */
export interface MatrixRecord {
  readonly name: string
  readonly shape: readonly number[]
}

/** One matrix, row-major. */
export interface AdapterMatrix extends MatrixRecord {
  readonly values: Float32Array
}

/** A whole adapter, or a difference of two; matrices sorted by name in code-unit order. */
export interface Adapter {
  readonly matrices: readonly AdapterMatrix[]
  /** Null where the source did not say. */
  readonly lora: DeltaLora | null
}

/** Orders names as gspo's adapter layout does. */
export function byName(left: { name: string }, right: { name: string }): number {
  return left.name < right.name ? -1 : left.name > right.name ? 1 : 0
}

/** Elements of all matrices. */
export function elementsOf(adapter: Adapter): number {
  return adapter.matrices.reduce((sum, { values }) => sum + values.length, 0)
}

/** All values in one vector, in the order of the matrices. */
export function flatten(adapter: Adapter): Float32Array {
  const flat = new Float32Array(elementsOf(adapter))
  let offset = 0
  for (const { values } of adapter.matrices) {
    flat.set(values, offset)
    offset += values.length
  }
  return flat
}

/** The inverse of `flatten`, with the shapes of `like`. Throws NodeError BAD_ADAPTER on another length. */
export function unflatten(flat: Float32Array, like: Adapter): Adapter {
  if (flat.length !== elementsOf(like)) {
    throw new NodeError(
      'BAD_ADAPTER',
      `the vector has ${flat.length} elements, the adapter ${elementsOf(like)}`,
    )
  }
  let offset = 0
  const matrices = like.matrices.map(({ name, shape, values }) => {
    offset += values.length
    return { name, shape, values: flat.slice(offset - values.length, offset) }
  })
  return { matrices, lora: like.lora }
}

/** SHA3-256 (hex) over the float32 values in little-endian order: the `state_before` of a delta's metadata. */
export function adapterSha3(values: Float32Array): string {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  return Buffer.from(sha3_256(bytes)).toString('hex')
}

/** How two adapters' lists of matrices differ, in words; null when names and shapes are the same. */
export function layoutDifference(
  left: { readonly matrices: readonly MatrixRecord[] },
  right: { readonly matrices: readonly MatrixRecord[] },
): string | null {
  const theirs = new Map(right.matrices.map((matrix) => [matrix.name, matrix]))
  for (const { name, shape } of left.matrices) {
    const other = theirs.get(name)
    if (other === undefined) return `${name} is only in the first`
    if (other.shape.join() !== shape.join()) {
      return `${name} has shape [${shape.join(', ')}] in the first and [${other.shape.join(', ')}] in the second`
    }
    theirs.delete(name)
  }
  const [extra] = theirs.keys()
  return extra === undefined ? null : `${extra} is only in the second`
}

/** `base + scale * difference` of one matrix, in double precision, rounded once. */
export function addScaled(base: Float32Array, difference: Float32Array, scale: number): Float32Array {
  return base.map((value, i) => value + scale * (difference[i] ?? 0))
}
