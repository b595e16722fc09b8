/** The full-sequence graph: log-probabilities of completions, and with a loss its value and the adapter's gradient. */
import { addDims, mulDims, type Dim } from '../graph/dims.ts'
import { gradients } from '../graph/gradient.ts'
import { GraphBuilder, type Graph } from '../graph/graph.ts'
import type { AdapterLayout, LoraConfig } from '../lora.ts'
import type { Checkpoint } from '../weights/checkpoint.ts'
import { groupAttention, type GroupDims, type GroupMasks } from './attention.ts'
import type { ModelConfig } from './config.ts'
import { decoderStack, type StackOutput, type TokenMixers } from './decoder.ts'
import { headScores, headScoresWithGradient, scoredDim } from './head.ts'
import { adapterMatrices, embed, frozenWeights, headWeight, type LayerContext } from './layers.ts'
import { lossGraph, type LossVariant } from './loss.ts'
import { groupLinear, type ChunkedRows } from './linear-core.ts'
import { balancingLoss } from './moe.ts'

/** What all graphs of one model are made from. */
export interface ModelSource {
  readonly config: ModelConfig
  readonly checkpoint: Checkpoint
  readonly lora: LoraConfig
  readonly layout: AdapterLayout
}

/** What of a batch shapes the graph itself: how many parts something runs in, one after the other. */
export interface BatchShape {
  /** Of the scored tokens, in the head. */
  readonly headChunks: number
  /** Of prompts and completions, in layers of linear attention; 1 in models without. */
  readonly promptChunks: number
  readonly completionChunks: number
}

/** Everything in one part. */
export const ONE_PART: BatchShape = { headChunks: 1, promptChunks: 1, completionChunks: 1 }

/**
 * Sizes: R prompts, G completions each, of chunks of P and C tokens, N scored tokens, L the caller's completion
 * length.
 */
function groupDims({ promptChunks, completionChunks }: BatchShape): GroupDims {
  return {
    prompts: 'R',
    group: 'G',
    promptLength: mulDims(promptChunks, 'P'),
    completionLength: mulDims(completionChunks, 'C'),
  }
}

/** Names of the inputs that only models with linear attention take. */
export const LINEAR_INPUTS = {
  isToken: 'is_token',
  promptLevels: 'prompt_levels',
  completionLevels: 'completion_levels',
} as const

/** Names of the mask inputs of a sliding-window size (null: no window). */
export function maskNames(window: number | null): { prompt: string; completion: string } {
  const suffix = window === null ? 'full' : `window${window}`
  return { prompt: `prompt_mask_${suffix}`, completion: `completion_mask_${suffix}` }
}

/**
 * Outputs `logps` and `entropies` [N] of the scored tokens, and `below` when it is asked for (see `headScores`).
 * Inputs: prompt_ids [R, P], completion_ids [R, G, C], positions [T, 1], cos and sin, masks,
 * score_rows [N] (the token, of all T, whose output predicts), targets_0, targets_1, ... (N in all, a chunk of the
 * head each), inverse_temperature, for `below` vocabulary [1, V]; with linear attention is_token [T, 1] and the levels of both kinds of chunks.
 */
export function scoreGraph(source: ModelSource, shape: BatchShape, withBelow = false): Graph {
  const g = new GraphBuilder()
  const context = layerContext(g, source)
  const { hidden } = scoredRows(context, shape)
  return g.finish({ ...headScores(g, hidden, headWeight(context), shape.headChunks, withBelow) })
}

/**
 * Outputs `loss`, `gradient` (flat, in the layout's order), `logps` and `entropies` [N].
 * Inputs as of `scoreGraph` and `lossGraph`, and slots [N]: where each scored token lies in [B, L]. With experts
 * also `expert_tokens`, how many tokens each expert got, layer by layer; when balanced, inputs token_shares [T, 1]
 * (1 in sum) and balance, the weight of the load-balancing loss.
 */
export function lossAndGradientGraph(source: ModelSource, variant: LossVariant, shape: BatchShape): Graph {
  const g = new GraphBuilder()
  const context = layerContext(g, source)
  const { headChunks } = shape
  const { hidden, routings } = scoredRows(context, shape)
  const { logps, entropies } = headScoresWithGradient(g, hidden, headWeight(context), headChunks)
  const slots = g.input('slots', [scoredDim(headChunks)], 'i32')
  const padded = g.scatterAddRows(logps, slots, mulDims('B', 'L'))
  const policyLoss = lossGraph(g, g.reshape(padded, ['B', 'L']), variant)
  const { moe } = source.config
  const loss =
    moe !== null && variant.isBalanced
      ? g.add(
          policyLoss,
          g.mul(
            balancingLoss(
              g,
              moe,
              [...routings.values()],
              g.input('token_shares', [tokenCount(groupDims(shape)), 1]),
            ),
            g.input('balance', []),
          ),
        )
      : policyLoss
  const flat = gradients(g, loss, context.adapter.all).map((gradient) =>
    g.reshape(gradient, [mulDims(...gradient.shape)]),
  )
  const reached = [...routings.values()].map(({ chosen }) => g.sum(chosen, [0]))
  const outputs = { loss, gradient: g.concat(flat, 0), logps, entropies }
  return g.finish(reached.length === 0 ? outputs : { ...outputs, expert_tokens: g.concat(reached, 0) })
}

function layerContext(g: GraphBuilder, { config, checkpoint, layout, lora }: ModelSource): LayerContext {
  return { g, config, weight: frozenWeights(g, checkpoint), adapter: adapterMatrices(g, layout, lora) }
}

/** Hidden rows that predict the scored tokens, divided by the temperature: [N, hidden]. */
export function scoredRows(context: LayerContext, shape: BatchShape): StackOutput {
  const { g, config } = context
  const dims = groupDims(shape)
  const { prompts, group, promptLength, completionLength } = dims
  const promptTokens = mulDims(prompts, promptLength)
  const completionTokens = mulDims(prompts, group, completionLength)
  const total = tokenCount(dims)
  const ids = g.concat(
    [
      g.reshape(g.input('prompt_ids', [prompts, promptLength], 'i32'), [promptTokens]),
      g.reshape(g.input('completion_ids', [prompts, group, completionLength], 'i32'), [completionTokens]),
    ],
    0,
  )
  const half = Math.floor(config.headSize * config.rope.partialFactor) / 2
  const rope = {
    positions: g.input('positions', [total, 1], 'i32'),
    cos: g.input('cos', ['M', half]),
    sin: g.input('sin', ['M', half]),
  }
  const seen = addDims(promptLength, completionLength)
  const masksOf = (layer: number): GroupMasks => {
    const names = maskNames(config.windows[layer] ?? null)
    return {
      prompt: g.input(names.prompt, [prompts, 1, 1, promptLength, promptLength]),
      completion: g.input(names.completion, [prompts, 1, group, 1, completionLength, seen]),
    }
  }
  const mixers: TokenMixers = {
    attend: groupAttention(g, config, dims, masksOf),
    recur: groupRecurrence(context, dims, shape),
  }
  const { hidden, routings } = decoderStack(context, embed(context, ids), rope, mixers)
  const scored = g.gatherRows(hidden, g.input('score_rows', [scoredDim(shape.headChunks)], 'i32'))
  return { hidden: g.mul(scored, g.input('inverse_temperature', [])), routings }
}

/** The mixer of linear attention layers; null for models without. */
function groupRecurrence(context: LayerContext, dims: GroupDims, shape: BatchShape): TokenMixers['recur'] {
  const { g, config } = context
  if (config.linear === null) return null
  const chunked = (rows: Dim, chunks: number, chunkLength: Dim, levels: string): ChunkedRows => ({
    rows,
    chunks,
    chunkLength,
    levels: g.input(levels, [chunkLength, chunkLength]),
  })
  const prompts = chunked(dims.prompts, shape.promptChunks, 'P', LINEAR_INPUTS.promptLevels)
  const rows = mulDims(dims.prompts, dims.group)
  const completions = chunked(rows, shape.completionChunks, 'C', LINEAR_INPUTS.completionLevels)
  return {
    core: groupLinear(context, config.linear, dims.group, prompts, completions),
    isToken: g.input(LINEAR_INPUTS.isToken, [tokenCount(dims), 1]),
  }
}

/** All tokens of a run: T. */
function tokenCount({ prompts, group, promptLength, completionLength }: GroupDims): Dim {
  return addDims(mulDims(prompts, promptLength), mulDims(prompts, group, completionLength))
}
