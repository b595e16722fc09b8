/** Random first weights as transformers draws them, and the model folder that trained weights make. */
import { copyFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GspoError } from '../errors.ts'
import { STREAM, uniform } from '../sampling/philox.ts'
import { encodeSafetensors } from '../weights/safetensors.ts'
import type { TensorValue } from '../weights/safetensors.ts'
import type { FullLayout } from '../full-model.ts'
import { makeFolder, replaceFile } from './files.ts'

/** transformers' `initializer_range` where a config does not name it. */
const DEFAULT_INITIALIZER_RANGE = 0.02

/** Files that make a model folder with the weights; those with a question mark may be absent. */
const COPIED = [
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json?',
  'generation_config.json?',
  'chat_template.jinja?',
]

/**
 * Matrices normal with deviation `range`, norms 1 (0 where the family adds 1 itself), biases 0, and decays of linear
 * attention with rates uniform in 0.01 to 16; a pure function of the seed.
 */
export function initialWeights(
  layout: FullLayout,
  { range, seed, zeroCentredNorms }: { range: number; seed: number; zeroCentredNorms: boolean },
): Float32Array {
  const values = new Float32Array(layout.length)
  for (const [index, { name, shape, offset }] of layout.tensors.entries()) {
    const own = values.subarray(offset, offset + sizeOf(shape))
    if (name.endsWith('.A_log'))
      own.forEach((_, i) => (own[i] = Math.log(0.01 + 15.99 * uniform(seed, STREAM.weights, index, 0, i))))
    else if (shape.length > 1) own.forEach((_, i) => (own[i] = range * normal(seed, index, i)))
    else if (name.endsWith('norm.weight'))
      // The gated norm inside linear attention is centred on 1 in every family.
      own.fill(zeroCentredNorms && !name.endsWith('.linear_attn.norm.weight') ? 0 : 1)
    else if (!name.endsWith('.bias')) own.fill(1)
  }
  return values
}

/** The `initializer_range` of a model folder's config.json. */
export async function initializerRange(modelDir: string): Promise<number> {
  const config: unknown = JSON.parse(await readFile(join(modelDir, 'config.json'), 'utf8'))
  if (
    typeof config === 'object' &&
    config !== null &&
    'initializer_range' in config &&
    typeof config.initializer_range === 'number'
  )
    return config.initializer_range
  return DEFAULT_INITIALIZER_RANGE
}

/** Writes a complete model folder: the weights, and config and tokenizer from `modelDir`. Throws FILE_MISSING, FILE_UNWRITABLE. */
export async function writeModelFolder(
  outDir: string,
  modelDir: string,
  layout: FullLayout,
  weights: Float32Array,
): Promise<void> {
  await makeFolder(outDir)
  const tensors = layout.tensors.map(({ name, shape, offset }): [string, TensorValue] => [
    name,
    { shape, values: weights.slice(offset, offset + sizeOf(shape)) },
  ])
  await replaceFile(join(outDir, 'model.safetensors'), encodeSafetensors(tensors, { format: 'pt' }))
  for (const entry of COPIED) {
    const name = entry.replace('?', '')
    try {
      await copyFile(join(modelDir, name), join(outDir, name))
    } catch (cause) {
      if (!entry.endsWith('?'))
        throw new GspoError('FILE_MISSING', `cannot copy ${name} from ${modelDir}`, { cause })
    }
  }
}

/** Elements of a tensor. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1)
}

/** A standard normal number by Box and Muller. */
function normal(seed: number, tensor: number, element: number): number {
  const radius = Math.sqrt(-2 * Math.log(1 - uniform(seed, STREAM.weights, tensor, 0, element)))
  return radius * Math.cos(2 * Math.PI * uniform(seed, STREAM.weights, tensor, 1, element))
}
