/**
 * Error feedback (Karimireddy et al., arXiv 1901.09847): what a lossy dtype loses in one round is added to the next
 * round's delta before it is stored, so that over rounds nothing is lost. Pure: no clock, no file, no network.
 */
import type { DeltaTensorSource } from './delta-encode.ts'
import type { DeltaDtype } from './delta-format.ts'
import { WireError } from './errors.ts'
import { packTensor, unpackTensor } from './tensor-codec.ts'
import { elementCount } from './tensor-layout.ts'

/** One tensor of a flat vector; the tensors lie in it one after another. */
export interface FeedbackTensor {
  readonly name: string
  readonly shape: readonly number[]
}

/** A round's delta as it will be sent. Nothing is remembered until `commit`. */
export interface FeedbackRound {
  /** For `encodeDelta`; packing them again gives the same bytes. */
  readonly tensors: readonly DeltaTensorSource[]
  /** What every reader will decode, flat. */
  readonly sent: Float32Array
  /** What is left over for the next round, flat. */
  readonly residual: Float32Array
  /** Bytes of the packed tensors, before compression. */
  readonly packedBytes: number
  /** Norm of what was lost over the norm of what was to be sent; 0 when both are zero. */
  readonly relativeError: number
}

/** Packs `values` as `dtype` and reads them back: the bytes it takes and what a reader will see. Throws `NON_FINITE`. */
export function roundTripTensor(
  dtype: DeltaDtype,
  shape: readonly number[],
  values: Float32Array,
): { readonly packedBytes: number; readonly values: Float32Array; readonly relativeError: number } {
  const elements = elementCount(shape, Number.MAX_SAFE_INTEGER / 4)
  if (values.length !== elements) {
    throw new WireError(
      'BAD_ARGUMENT',
      `${values.length} values for shape [${shape.join(', ')}], expected ${elements}`,
    )
  }
  const packed = packTensor(dtype, shape, values, 'to send')
  const seen = unpackTensor(dtype, shape, elements, packed, 'to send')
  let lost = 0
  let whole = 0
  for (let i = 0; i < elements; i++) {
    lost += (values[i] - seen[i]) ** 2
    whole += values[i] ** 2
  }
  return {
    packedBytes: packed.length,
    values: seen,
    relativeError: whole === 0 ? 0 : Math.sqrt(lost / whole),
  }
}

/** The accumulator of one worker. A round that is abandoned or run again is simply not committed, or prepared again. */
export class ErrorFeedback {
  readonly #dtype: DeltaDtype
  readonly #tensors: readonly {
    readonly tensor: FeedbackTensor
    readonly start: number
    readonly end: number
  }[]
  #residual: Float32Array

  /** Starts with nothing left over, or with a stored residual (copied). Throws `BAD_ARGUMENT` on a wrong length. */
  constructor(dtype: DeltaDtype, tensors: readonly FeedbackTensor[], residual?: Float32Array) {
    let end = 0
    this.#dtype = dtype
    this.#tensors = tensors.map((tensor) => {
      const start = end
      end += elementCount(tensor.shape, Number.MAX_SAFE_INTEGER / 4)
      return { tensor, start, end }
    })
    if (residual !== undefined && residual.length !== end) {
      throw new WireError('BAD_ARGUMENT', `residual has ${residual.length} elements, the tensors have ${end}`)
    }
    this.#residual = residual === undefined ? new Float32Array(end) : Float32Array.from(residual)
  }

  /** A copy of what is left over, to be stored with the worker's state. */
  get residual(): Float32Array {
    return Float32Array.from(this.#residual)
  }

  /** What to send for this round's delta (flat, untouched). Throws `BAD_ARGUMENT` on a wrong length, `NON_FINITE`. */
  prepare(delta: Float32Array): FeedbackRound {
    if (delta.length !== this.#residual.length) {
      throw new WireError(
        'BAD_ARGUMENT',
        `delta has ${delta.length} elements, the tensors have ${this.#residual.length}`,
      )
    }
    const wanted = new Float32Array(delta.length)
    for (let i = 0; i < wanted.length; i++) wanted[i] = delta[i] + this.#residual[i]
    const sent = new Float32Array(wanted.length)
    let packedBytes = 0
    const tensors = this.#tensors.map(({ tensor: { name, shape }, start, end }) => {
      const values = wanted.subarray(start, end)
      const seen = roundTripTensor(this.#dtype, shape, values)
      sent.set(seen.values, start)
      packedBytes += seen.packedBytes
      return { name, dtype: this.#dtype, shape, values }
    })
    const residual = new Float32Array(wanted.length)
    let lost = 0
    let whole = 0
    for (let i = 0; i < wanted.length; i++) {
      residual[i] = wanted[i] - sent[i]
      lost += residual[i] ** 2
      whole += wanted[i] ** 2
    }
    return { tensors, sent, residual, packedBytes, relativeError: whole === 0 ? 0 : Math.sqrt(lost / whole) }
  }

  /** Remembers what `round` left over: call it when the round has been committed by the ring. */
  commit(round: FeedbackRound): void {
    if (round.residual.length !== this.#residual.length) {
      throw new WireError(
        'BAD_ARGUMENT',
        `round has ${round.residual.length} elements, expected ${this.#residual.length}`,
      )
    }
    this.#residual = Float32Array.from(round.residual)
  }
}
