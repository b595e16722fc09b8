/** Low-Rank Adaptation (arXiv 2106.09685): where the matrices sit, how they lie in one flat vector, how they start. */
import { GspoError } from './errors.ts'

/** The linear layers that can carry a LoRA, by PEFT's names. */
export const LORA_TARGETS = [
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
  'in_proj_qkvz',
  'in_proj_ba',
  'out_proj',
] as const

/** One of these linear layers; the last three are those of linear attention. */
export type LoraTarget = (typeof LORA_TARGETS)[number]

/** Mixtral's names of an expert's matrices. */
const MIXTRAL_NAMES: Readonly<Record<string, LoraTarget>> = {
  w1: 'gate_proj',
  w2: 'down_proj',
  w3: 'up_proj',
}

/** The target that a checkpoint's name of a linear layer, as PEFT's target_modules has it, stands for. */
export function loraTargetOf(name: string): LoraTarget | undefined {
  return LORA_TARGETS.find((target) => target === name) ?? MIXTRAL_NAMES[name]
}

/** y = W x + s B (A x), with s = alpha / rank, or alpha / sqrt(rank) when `useRslora`. */
export interface LoraConfig {
  rank: number
  alpha: number
  targets: readonly LoraTarget[]
  useRslora: boolean
}

/** One matrix of the adapter; A is [rank, in], B is [out, rank]. */
export interface AdapterTensor {
  /** PEFT's name, e.g. base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight */
  readonly name: string
  readonly shape: readonly [number, number]
  /** First element in the flat vector. */
  readonly offset: number
}

/** All matrices of an adapter in one flat float32 vector, sorted by name in code-unit order. */
export interface AdapterLayout {
  readonly tensors: readonly AdapterTensor[]
  readonly length: number
}

/** A frozen linear layer that gets a LoRA: its module path in the checkpoint, and its size. */
export interface LoraSite {
  /** e.g. model.layers.0.self_attn.q_proj */
  readonly module: string
  readonly inSize: number
  readonly outSize: number
}

/** The factor s in front of B A x. */
export function loraScale(config: LoraConfig): number {
  return config.useRslora ? config.alpha / Math.sqrt(config.rank) : config.alpha / config.rank
}

/** PEFT's name of one of a module's two matrices. */
export function loraTensorName(module: string, matrix: 'A' | 'B'): string {
  return `base_model.model.${module}.lora_${matrix}.weight`
}

/** The last part of each adapted module's path, sorted: what PEFT's target_modules lists. */
export function targetModules({ tensors }: AdapterLayout): string[] {
  return [...new Set(tensors.map(({ name }) => name.split('.').at(-3) ?? name))].sort()
}

/** Checks a LoRA configuration; throws BAD_OPTION with what was seen. */
export function checkLoraConfig(config: LoraConfig): void {
  if (!Number.isInteger(config.rank) || config.rank < 1)
    throw new GspoError('BAD_OPTION', `lora rank is ${config.rank}; it must be a whole number of at least 1`)
  if (!Number.isFinite(config.alpha))
    throw new GspoError('BAD_OPTION', `lora alpha is ${config.alpha}; it must be a finite number`)
  if (config.targets.length === 0)
    throw new GspoError('BAD_OPTION', `no lora targets; name at least one of ${LORA_TARGETS.join(', ')}`)
  const unknown = config.targets.filter((target) => !LORA_TARGETS.includes(target))
  if (unknown.length > 0)
    throw new GspoError(
      'BAD_OPTION',
      `unknown lora targets ${unknown.join(', ')}; known: ${LORA_TARGETS.join(', ')}`,
    )
}

/** Lays the adapter's matrices out one after the other, sorted by name. Throws BAD_OPTION without any. */
export function adapterLayout(sites: readonly LoraSite[], rank: number): AdapterLayout {
  if (sites.length === 0)
    throw new GspoError(
      'BAD_OPTION',
      'this model has none of the layers in lora_targets: leave lora_targets out, which takes all that it has',
    )
  const shapes = sites.flatMap((site): { name: string; shape: readonly [number, number] }[] => [
    { name: loraTensorName(site.module, 'A'), shape: [rank, site.inSize] },
    { name: loraTensorName(site.module, 'B'), shape: [site.outSize, rank] },
  ])
  shapes.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  let length = 0
  const tensors = shapes.map(({ name, shape }) => {
    const tensor = { name, shape, offset: length }
    length += shape[0] * shape[1]
    return tensor
  })
  return { tensors, length }
}

/** PEFT's start: A uniform in +-1/sqrt(in) (Kaiming with a = sqrt 5), B zero; deterministic in the seed. */
export function initialAdapter(layout: AdapterLayout, seed: number): Float32Array {
  const values = new Float32Array(layout.length)
  const random = mulberry32(seed)
  for (const { name, shape, offset } of layout.tensors) {
    if (!name.endsWith('.lora_A.weight')) continue
    const bound = 1 / Math.sqrt(shape[1])
    for (let i = 0; i < shape[0] * shape[1]; i++) values[offset + i] = (2 * random() - 1) * bound
  }
  return values
}

/** Mulberry32, a 32-bit generator with one word of state; enough for initial weights. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let word = Math.imul(state ^ (state >>> 15), 1 | state)
    word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word
    return ((word ^ (word >>> 14)) >>> 0) / 4294967296
  }
}
