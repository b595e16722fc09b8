/** The full-sequence graph: log-probabilities of completions, and with a loss its value and the adapter's gradient. */
import { addDims, mulDims, type Dim } from '../graph/dims.ts'
import { gradients } from '../graph/gradient.ts'
import { GraphBuilder, type Graph } from '../graph/graph.ts'
import type { AdapterLayout, LoraConfig } from '../lora.ts'
import type { Checkpoint } from '../weights/checkpoint.ts'
import { groupAttention, type GroupDims, type GroupMasks } from './attention.ts'
import type { ModelConfig } from './config.ts'
import { decoderStack, type StackOutput } from './decoder.ts'
import { headScores, headScoresWithGradient, scoredDim } from './head.ts'
import { adapterMatrices, embed, frozenWeights, headWeight, type LayerContext } from './layers.ts'
import { lossGraph, type LossVariant } from './loss.ts'
import { balancingLoss } from './moe.ts'

/** What all graphs of one model are made from. */
export interface ModelSource {
  readonly config: ModelConfig
  readonly checkpoint: Checkpoint
  readonly lora: LoraConfig
  readonly layout: AdapterLayout
}

/** Sizes: R prompts, G completions each, P and C tokens, N scored tokens, L the caller's completion length. */
const DIMS: GroupDims = { prompts: 'R', group: 'G', promptLength: 'P', completionLength: 'C' }

/** Names of the mask inputs of a sliding-window size (null: no window). */
export function maskNames(window: number | null): { prompt: string; completion: string } {
  const suffix = window === null ? 'full' : `window${window}`
  return { prompt: `prompt_mask_${suffix}`, completion: `completion_mask_${suffix}` }
}

/**
 * Outputs `logps` and `entropies` [N] of the scored tokens.
 * Inputs: prompt_ids [R, P], completion_ids [R, G, C], positions [T, 1], cos and sin, masks,
 * score_rows [N] (the token, of all T, whose output predicts), targets_0, targets_1, ... (N in all, a chunk of the
 * head each), inverse_temperature.
 */
export function scoreGraph(source: ModelSource, chunks: number): Graph {
  const g = new GraphBuilder()
  const context = layerContext(g, source)
  const { hidden } = scoredRows(context, chunks)
  return g.finish(headScores(g, hidden, headWeight(context), chunks))
}

/**
 * Outputs `loss`, `gradient` (flat, in the layout's order), `logps` and `entropies` [N].
 * Inputs as of `scoreGraph` and `lossGraph`, and slots [N]: where each scored token lies in [B, L]. With experts
 * also `expert_tokens`, how many tokens each expert got, layer by layer; when balanced, inputs token_shares [T, 1]
 * (1 in sum) and balance, the weight of the load-balancing loss.
 */
export function lossAndGradientGraph(source: ModelSource, variant: LossVariant, chunks: number): Graph {
  const g = new GraphBuilder()
  const context = layerContext(g, source)
  const { hidden, routings } = scoredRows(context, chunks)
  const { logps, entropies } = headScoresWithGradient(g, hidden, headWeight(context), chunks)
  const slots = g.input('slots', [scoredDim(chunks)], 'i32')
  const padded = g.scatterAddRows(logps, slots, mulDims('B', 'L'))
  const policyLoss = lossGraph(g, g.reshape(padded, ['B', 'L']), variant)
  const { moe } = source.config
  const loss =
    moe !== null && variant.isBalanced
      ? g.add(
          policyLoss,
          g.mul(
            balancingLoss(g, moe, [...routings.values()], g.input('token_shares', [tokenCount(), 1])),
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
export function scoredRows(context: LayerContext, chunks: number): StackOutput {
  const { g, config } = context
  const { prompts, group, promptLength, completionLength } = DIMS
  const promptTokens = mulDims(prompts, promptLength)
  const completionTokens = mulDims(prompts, group, completionLength)
  const total = tokenCount()
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
  const attend = groupAttention(g, config, DIMS, masksOf)
  const { hidden, routings } = decoderStack(context, embed(context, ids), rope, attend)
  const scored = g.gatherRows(hidden, g.input('score_rows', [scoredDim(chunks)], 'i32'))
  return { hidden: g.mul(scored, g.input('inverse_temperature', [])), routings }
}

/** All tokens of a run: T. */
function tokenCount(): Dim {
  const { prompts, group, promptLength, completionLength } = DIMS
  return addDims(mulDims(prompts, promptLength), mulDims(prompts, group, completionLength))
}
