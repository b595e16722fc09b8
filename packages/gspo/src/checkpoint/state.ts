/**
 * The trainer's whole state as bytes: adapter, AdamW's moments and step counts, counters and data position. Equal
 * states give equal bytes, and a trainer that imports them goes on bit for bit. Randomness has no state of its own:
 * every draw is a function of the seed and these counters.
 */
import { GspoError } from '../errors.ts'
import type { AdapterLayout } from '../lora.ts'
import type { AdamwState } from '../optim/adamw.ts'
import {
  decodeSafetensors,
  encodeSafetensors,
  floatTensor,
  intTensor,
  toFloat32,
} from './safetensors-buffer.ts'
import type { StoredTensor } from './safetensors-buffer.ts'

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
  const length = state.adapter.length
  return encodeSafetensors({
    metadata: {
      format: FORMAT,
      step: String(state.step),
      updates: String(state.updates),
      data_position: String(state.dataPosition),
    },
    tensors: new Map<string, StoredTensor>([
      ['adapter', floatTensor(state.adapter, [length])],
      ['adam.first_moment', floatTensor(state.optimizer.firstMoment, [length])],
      ['adam.second_moment', floatTensor(state.optimizer.secondMoment, [length])],
      ['adam.steps', intTensor(state.optimizer.steps, [state.optimizer.steps.length])],
    ]),
  })
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
    const values = toFloat32(required(tensors, name), 'trainer state')
    if (values.length !== layout.length)
      throw new GspoError(
        'BAD_STATE',
        `trainer state: ${name} has ${values.length} elements, this adapter has ${layout.length}: lora_rank, lora_targets and model must be those of the checkpoint`,
      )
    const bad = values.findIndex((value) => !Number.isFinite(value))
    if (bad >= 0) throw new GspoError('BAD_STATE', `trainer state: ${name} is not finite at element ${bad}`)
    return values
  }
  const steps = toInt32(required(tensors, 'adam.steps'))
  if (steps.length !== layout.tensors.length)
    throw new GspoError(
      'BAD_STATE',
      `trainer state: adam.steps has ${steps.length} entries, this adapter has ${layout.tensors.length} tensors`,
    )
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

function required(tensors: ReadonlyMap<string, StoredTensor>, name: string): StoredTensor {
  const tensor = tensors.get(name)
  if (tensor === undefined) throw new GspoError('BAD_STATE', `trainer state: tensor ${name} is missing`)
  return tensor
}

function toInt32(tensor: StoredTensor): Int32Array {
  if (tensor.dtype !== 'I32')
    throw new GspoError('BAD_STATE', `trainer state: adam.steps is ${tensor.dtype}, expected I32`)
  const view = new DataView(tensor.bytes.buffer, tensor.bytes.byteOffset, tensor.bytes.byteLength)
  return Int32Array.from({ length: tensor.bytes.length / 4 }, (_, index) => view.getInt32(index * 4, true))
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
