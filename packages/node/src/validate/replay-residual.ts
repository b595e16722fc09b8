/**
 * Error feedback of a lossy delta, checked: what it says it had left over from the round before, and what it says that
 * it leaves over. A residual that nobody checks would let a worker add what it likes to its delta. Pure but for hashing.
 */

import {
  decodeDeltaBuffer,
  roundTripTensor,
  sha3_256,
  squaredRoundingDistance,
  verifyDelta,
  WireError,
  type DeltaMetadata,
  type DeltaTensor,
} from '@gym-node/wire'
import { checked, short, unchecked, type CheckResult } from './checks.ts'
import { MAX_RESIDUAL_ROUNDING } from './defaults.ts'
import type { ReplayCheckName, ResidualFiles } from './replay-types.ts'

type Check = CheckResult<ReplayCheckName>

/** What a replay knows of the residual that a delta starts from. */
export interface ResidualBefore {
  readonly check: Check
  /** To be added to the replayed difference; null for nothing. */
  readonly values: Float32Array | null
}

function hexSha3(bytes: Uint8Array): string {
  return Buffer.from(sha3_256(bytes)).toString('hex')
}

function norm(values: Float32Array): number {
  let squares = 0
  for (const value of values) squares += value * value
  return Math.sqrt(squares)
}

/** float32 numbers of a file; null when they are not `length` finite ones. */
function readFloats(bytes: Uint8Array, length: number): Float32Array | null {
  if (bytes.length !== 4 * length) return null
  const values = new Float32Array(new Uint8Array(bytes).buffer)
  return values.every(Number.isFinite) ? values : null
}

/** The check `residual`: the start is nothing, or exactly what the worker's counted delta of the round before left over. */
export async function residualBefore(
  metadata: DeltaMetadata,
  tensors: readonly DeltaTensor[],
  files: ResidualFiles,
): Promise<ResidualBefore> {
  const wanted = metadata.residual?.before ?? null
  if (wanted === null) {
    return { check: checked('residual', null, 'nothing is left over from earlier rounds'), values: null }
  }
  const fail = (fault: string): ResidualBefore => ({ check: checked('residual', fault, ''), values: null })
  if (files.before === undefined)
    return fail('the delta adds a residual of the round before, which is not here')
  const seen = hexSha3(files.before)
  if (seen !== wanted) return fail(`the residual's hash is ${seen}, the delta was signed over ${wanted}`)
  const length = tensors.reduce((sum, { values }) => sum + values.length, 0)
  const values = readFloats(files.before, length)
  if (values === null)
    return fail(`the residual is ${files.before.length} bytes, expected ${length} finite float32`)
  if (files.previousDelta === undefined) {
    const unknown = unchecked('residual', "the worker's delta of the round before was not given")
    return { check: unknown, values }
  }
  if (files.previousDelta === null)
    return fail('the delta adds a residual, but the round before counted no delta of this worker')
  const fault = await linkFault(files.previousDelta, metadata, wanted, values)
  return { check: checked('residual', fault, 'what the delta of the round before left over'), values }
}

/** Why `values` cannot be what the delta of the round before left over; null when they can. */
async function linkFault(
  previous: Uint8Array,
  { worker_id: workerId }: DeltaMetadata,
  wanted: string,
  values: Float32Array,
): Promise<string | null> {
  const verdict = await verifyDelta([previous])
  if (!verdict.ok || verdict.metadata?.worker_id !== workerId)
    return "the delta of the round before does not verify as this worker's"
  const left = verdict.metadata.residual?.after ?? null
  if (left !== wanted)
    return `the residual's hash is ${wanted}, the delta of the round before left ${left ?? 'none'}`
  // What is left over plus what was sent is what was to be sent: rounding it must give what was sent.
  let [squares, sizes, offset] = [0, 0, 0]
  for await (const { dtype, shape, values: sent } of (await decodeDeltaBuffer(previous)).tensors()) {
    const whole = sent.map((value, i) => value + (values[offset + i] ?? NaN))
    offset += sent.length
    squares += squaredRoundingDistance(dtype, shape, whole, sent)
    sizes += norm(whole) ** 2
  }
  const distance = Math.sqrt(squares / Math.max(sizes, Number.MIN_VALUE))
  if (offset !== values.length || !(distance <= MAX_RESIDUAL_ROUNDING))
    return `no delta that rounds to the one of the round before leaves this residual over: it is off by ${short(distance)}`
  return null
}

/** The replayed delta as the claimed file would hold it, and how far the claimed one is from being it. */
export interface StoredComparison {
  /** Replayed difference and residual, before rounding. */
  readonly wanted: Float32Array
  /** The same after the rounding of the file's dtypes; what an honest file holds on the same machine. */
  readonly stored: Float32Array
  /** Sum of squares of the least change to `wanted` after which it rounds to what the file holds. */
  readonly squaredDistance: number
}

/**
 * Rounds as the file does. `claimed` are tensors of the adapter's layout, in its order. Throws WireError NON_FINITE
 * where the replayed numbers do not fit the dtype.
 */
export function storedAs(
  difference: Float32Array,
  residual: Float32Array | null,
  claimed: readonly DeltaTensor[],
): StoredComparison {
  const wanted = residual === null ? difference : difference.map((value, i) => value + (residual[i] ?? 0))
  const stored = new Float32Array(wanted.length)
  let [offset, squaredDistance] = [0, 0]
  for (const { dtype, shape, values } of claimed) {
    const part = wanted.subarray(offset, offset + values.length)
    stored.set(dtype === 'f32' ? part : roundTripTensor(dtype, shape, part).values, offset)
    squaredDistance += squaredRoundingDistance(dtype, shape, part, values)
    offset += values.length
  }
  return { wanted, stored, squaredDistance }
}

/** The check `residual_after`: what the delta says that it lost is what it lost. */
export function residualAfterCheck(
  metadata: DeltaMetadata,
  claimed: readonly DeltaTensor[],
  { wanted }: StoredComparison,
  differenceNorm: number,
  file: Uint8Array | undefined,
  allowed: { readonly error: number; readonly isIdentityRequired: boolean },
): Check {
  const stated = metadata.residual?.after
  const isLossy = claimed.some(({ dtype }) => dtype !== 'f32')
  if (stated === undefined) {
    return isLossy
      ? unchecked('residual_after', 'the delta states no residual: what it lost is lost')
      : checked('residual_after', null, 'f32 loses nothing')
  }
  const lost = new Float32Array(wanted.length)
  let offset = 0
  for (const { values } of claimed) {
    for (const [i, value] of values.entries()) lost[offset + i] = (wanted[offset + i] ?? 0) - value
    offset += values.length
  }
  if (hexSha3(new Uint8Array(lost.buffer)) === stated) return checked('residual_after', null, 'bit-identical')
  if (allowed.isIdentityRequired)
    return checked('residual_after', 'what is left over is not bit-identical', '')
  if (file === undefined) {
    return unchecked(
      'residual_after',
      'not bit-identical here, and the file of what is left over was not given',
    )
  }
  if (hexSha3(file) !== stated)
    return checked('residual_after', `the file of what is left over is not the one signed, ${stated}`, '')
  const claimedLost = readFloats(file, lost.length)
  if (claimedLost === null)
    return checked(
      'residual_after',
      `the file of what is left over is ${file.length} bytes of other numbers`,
      '',
    )
  const error =
    norm(claimedLost.map((value, i) => value - (lost[i] ?? 0))) / Math.max(differenceNorm, Number.MIN_VALUE)
  const seen = `what is left over is off by ${short(error)} of the replayed delta`
  return checked('residual_after', error > allowed.error ? `${seen}, allowed ${allowed.error}` : null, seen)
}

/** Whether an error of `storedAs` is the file's fault. */
export function isStorageFault(error: unknown): error is WireError {
  return error instanceof WireError && error.code === 'NON_FINITE'
}
