/**
 * The trainer's whole state as bytes: adapter, AdamW's moments and step counts, counters and data position. Equal
 * states give equal bytes, and a trainer that imports them goes on bit for bit. Randomness has no state of its own:
 * every draw is a function of the seed and these counters.
 */
import { GspoError } from '../errors.ts'
import type { AdapterLayout } from '../lora.ts'
import type { AdamwState } from '../optim/adamw.ts'
import { decodeSafetensors, encodeSafetensors } from '../weights/safetensors.ts'
import type { TensorValue } from '../weights/safetensors.ts'

/** Everything that a next step depends on, besides configuration and files. */
export interface TrainerState {
  readonly adapter: Float32Array
  readonly optimizer: AdamwState
  /** Steps (rollouts) done. */
  readonly step: number
  /** Optimiser updates done: the clock of the learning-rate schedule. */
  readonly updates: number
  /** Next global position in the data. */
  readonly dataPosition: number
}

const FORMAT = 'gym-trainer-state-1'

/** The state as safetensors bytes. */
export function encodeState(state: TrainerState): Uint8Array {
  const shape = [state.adapter.length]
  const { firstMoment, secondMoment, steps } = state.optimizer
  return encodeSafetensors(
    [
      ['adam.first_moment', { shape, values: firstMoment }],
      ['adam.second_moment', { shape, values: secondMoment }],
      ['adam.steps', { shape: [steps.length], values: steps }],
      ['adapter', { shape, values: state.adapter }],
    ],
    {
      format: FORMAT,
      step: String(state.step),
      updates: String(state.updates),
      data_position: String(state.dataPosition),
    },
  )
}

/** The state in `bytes`, checked against the adapter it must fit. Throws GspoError BAD_STATE or BAD_SAFETENSORS. */
export function decodeState(bytes: Uint8Array, layout: AdapterLayout): TrainerState {
  const { metadata, tensors } = decodeSafetensors(bytes, 'trainer state')
  if (metadata['format'] !== FORMAT)
    throw new GspoError(
      'BAD_STATE',
      `trainer state has format ${metadata['format'] ?? 'none'}, expected ${FORMAT}`,
    )
  const floats = (name: string): Float32Array => {
    const values = tensors.get(name)?.values
    if (!(values instanceof Float32Array) || values.length !== layout.length)
      throw new GspoError(
        'BAD_STATE',
        `trainer state: ${name} has ${values?.length ?? 'no'} elements, this adapter has ${layout.length}: lora_rank, lora_targets and model must be those of the checkpoint`,
      )
    const bad = values.findIndex((value) => !Number.isFinite(value))
    if (bad >= 0) throw new GspoError('BAD_STATE', `trainer state: ${name} is not finite at element ${bad}`)
    return values
  }
  const steps = stepCounts(tensors, layout)
  return {
    adapter: floats('adapter'),
    optimizer: {
      firstMoment: floats('adam.first_moment'),
      secondMoment: floats('adam.second_moment'),
      steps,
    },
    step: counter(metadata, 'step'),
    updates: counter(metadata, 'updates'),
    dataPosition: counter(metadata, 'data_position'),
  }
}

function stepCounts(tensors: ReadonlyMap<string, TensorValue>, layout: AdapterLayout): Int32Array {
  const steps = tensors.get('adam.steps')?.values
  if (!(steps instanceof Int32Array) || steps.length !== layout.tensors.length)
    throw new GspoError(
      'BAD_STATE',
      `trainer state: adam.steps has ${steps?.length ?? 'no'} entries, this adapter has ${layout.tensors.length} tensors`,
    )
  return steps
}

function counter(metadata: Readonly<Record<string, string>>, key: string): number {
  const value = Number(metadata[key])
  if (!Number.isSafeInteger(value) || value < 0)
    throw new GspoError(
      'BAD_STATE',
      `trainer state: ${key} is ${metadata[key] ?? 'missing'}, expected a count`,
    )
  return value
}
