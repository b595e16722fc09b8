/**
 * Which rows are decoded in one block, that is see one copy of their prompt. Blocks have equally many members, so where a
 * prompt's rows do not fill its last block one of them is computed again in the rest. Pure.
 */
import { CACHE_READ_PRODUCTS } from './defaults.ts'
import type { ModelConfig } from './models/model-config.ts'

/** Blocks of `members` rows. */
export interface DecodingBlocks {
  readonly members: number
  /** The prompt of each block. */
  readonly prompts: readonly number[]
  /** Index of the row in each place, block by block; the last row of a prompt fills its last block up. */
  readonly rows: readonly number[]
}

/** What a place costs beside a block, in any one unit. */
export interface BlockCosts {
  /** One more row through the layers. */
  readonly row: number
  /** Reading a prompt once. */
  readonly prompt: number
}

/** Costs of decoding one token after prompts of so many tokens, in multiplications. */
export function blockCosts(config: ModelConfig, promptTokens: number): BlockCosts {
  const { hiddenSize, heads, kvHeads, headSize, intermediateSize, layers, moe } = config
  const feedForward = moe === null ? intermediateSize : moe.expertsPerToken * moe.expertSize
  const products = hiddenSize * ((2 * heads + 2 * kvHeads) * headSize + 3 * feedForward)
  const attentionLayers = config.linearLayers.filter((isLinear) => !isLinear).length
  return {
    row: layers * products,
    prompt: attentionLayers * 2 * kvHeads * headSize * promptTokens * CACHE_READ_PRODUCTS,
  }
}

/** The cheapest blocks for rows whose prompts are `promptOf`: the largest where several cost the same. */
export function planBlocks(promptOf: readonly number[], costs: BlockCosts): DecodingBlocks {
  const groups = new Map<number, number[]>()
  for (const [row, prompt] of promptOf.entries()) groups.set(prompt, [...(groups.get(prompt) ?? []), row])
  const sizes = [...groups.values()].map((rows) => rows.length)
  let best = { members: 1, cost: Infinity }
  for (let members = Math.max(...sizes, 1); members >= 1; members--) {
    const blocks = sizes.reduce((sum, size) => sum + Math.ceil(size / members), 0)
    const cost = blocks * (members * costs.row + costs.prompt)
    if (cost < best.cost) best = { members, cost }
  }
  const { members } = best
  const prompts: number[] = []
  const places: number[] = []
  for (const [prompt, rows] of groups)
    for (let start = 0; start < rows.length; start += members) {
      prompts.push(prompt)
      for (let member = 0; member < members; member++)
        places.push(rows[Math.min(start + member, rows.length - 1)] ?? 0)
    }
  return { members, prompts, rows: places }
}
