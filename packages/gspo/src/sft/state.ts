/**
 * The whole state of a supervised run as bytes, so that one that was killed goes on bit for bit: weights, AdamW's
 * moments and step counts, updates done, the rate's place. Every random draw is a function of the seed and the update.
 */
import { z } from 'zod'
import { GspoError } from '../errors.ts'
import type { FullLayout } from '../full-model.ts'
import type { AdamwState } from '../optim/adamw.ts'
import { decodeSafetensors, encodeSafetensors } from '../weights/safetensors.ts'

const progressSchema = z.strictObject({
  step: z.int().positive(),
  loss: z.number(),
  learningRate: z.number(),
  gradNorm: z.number(),
  accuracy: z.number().nullable(),
  seconds: z.number(),
})

/** One evaluation, or the end of training. */
export interface SftProgress {
  /** Updates done. */
  readonly step: number
  /** Cross-entropy of the last batch, nats a token. */
  readonly loss: number
  readonly learningRate: number
  readonly gradNorm: number
  /** Exact-match rate of sampling at temperature 1 on eval_dataset, from the answers' probabilities; null without one. */
  readonly accuracy: number | null
  /** Since the run began; of one that was interrupted, without the pause and what was lost. */
  readonly seconds: number
}

/** Everything that the next update depends on, besides configuration and files. */
export interface SftState {
  readonly weights: Float32Array
  readonly optimizer: AdamwState
  /** Updates done. */
  readonly step: number
  /** Whether `lr_drop_at_accuracy` has been reached. */
  readonly isRateLow: boolean
  /** The last evaluation; null before the first. */
  readonly last: SftProgress | null
}

/** What two runs must share for one to go on where the other ended, by name: settings, and hashes of files' content. */
export type SftRecipe = Readonly<Record<string, string | number | null>>

const FORMAT = 'gym-sft-state-1'

/** A state at an evaluation as safetensors bytes. */
export function encodeSftState(state: SftState, recipe: SftRecipe): Uint8Array {
  const shape = [state.weights.length]
  const { firstMoment, secondMoment, steps } = state.optimizer
  return encodeSafetensors(
    [
      ['adam.first_moment', { shape, values: firstMoment }],
      ['adam.second_moment', { shape, values: secondMoment }],
      ['adam.steps', { shape: [steps.length], values: steps }],
      ['weights', { shape, values: state.weights }],
    ],
    {
      format: FORMAT,
      recipe: JSON.stringify(recipe),
      is_rate_low: String(state.isRateLow),
      last: JSON.stringify(state.last),
    },
  )
}

/** The state in `bytes`, of a run by this recipe over these weights. Throws GspoError BAD_STATE or BAD_SAFETENSORS. */
export function decodeSftState(bytes: Uint8Array, recipe: SftRecipe, layout: FullLayout): SftState {
  const { metadata, tensors } = decodeSafetensors(bytes, 'sft state')
  if (metadata['format'] !== FORMAT)
    throw new GspoError(
      'BAD_STATE',
      `sft state has format ${metadata['format'] ?? 'none'}, expected ${FORMAT}`,
    )
  checkRecipe(metadata['recipe'], recipe)
  const floats = (name: string): Float32Array => {
    const values = tensors.get(name)?.values
    if (!(values instanceof Float32Array) || values.length !== layout.length)
      throw new GspoError(
        'BAD_STATE',
        `sft state: ${name} has ${values?.length ?? 'no'} numbers, expected ${layout.length}`,
      )
    const bad = values.findIndex((value) => !Number.isFinite(value))
    if (bad >= 0) throw new GspoError('BAD_STATE', `sft state: ${name} is not finite at element ${bad}`)
    return values
  }
  const steps = tensors.get('adam.steps')?.values
  if (!(steps instanceof Int32Array) || steps.length !== layout.tensors.length)
    throw new GspoError(
      'BAD_STATE',
      `sft state: adam.steps has ${steps?.length ?? 'no'} entries, expected ${layout.tensors.length}`,
    )
  const last = progressSchema.safeParse(parseJson(metadata['last'], 'last'))
  if (!last.success) throw new GspoError('BAD_STATE', `sft state: bad last: ${z.prettifyError(last.error)}`)
  return {
    weights: floats('weights'),
    optimizer: {
      firstMoment: floats('adam.first_moment'),
      secondMoment: floats('adam.second_moment'),
      steps,
    },
    step: last.data.step,
    isRateLow: metadata['is_rate_low'] === 'true',
    last: last.data,
  }
}

function checkRecipe(text: string | undefined, own: SftRecipe): void {
  const theirs = z
    .record(z.string(), z.union([z.string(), z.number(), z.null()]))
    .safeParse(parseJson(text, 'recipe'))
  if (!theirs.success) throw new GspoError('BAD_STATE', 'sft state: recipe is not an object of settings')
  for (const key of new Set([...Object.keys(own), ...Object.keys(theirs.data)])) {
    const [was, is] = [theirs.data[key] ?? null, own[key] ?? null]
    if (was !== is)
      throw new GspoError(
        'BAD_STATE',
        `sft state: ${key} was ${String(was)}, is ${String(is)}: go on with what the run began with, or take another checkpoint_dir`,
      )
  }
}

function parseJson(text: string | undefined, name: string): unknown {
  try {
    return JSON.parse(text ?? '')
  } catch (cause) {
    throw new GspoError('BAD_STATE', `sft state: ${name} is not JSON`, { cause })
  }
}
