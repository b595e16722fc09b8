/** The full-sequence graph: log-probabilities of completions, and with a loss its value and the adapter's gradient. */
import { addDims, mulDims, type Dim } from '../graph/dims.ts'
import { gradients } from '../graph/gradient.ts'
import { GraphBuilder, type Graph } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import type { AdapterLayout, LoraConfig } from '../lora.ts'
import type { Checkpoint } from '../weights/checkpoint.ts'
import { groupAttention, type GroupDims, type GroupMasks } from './attention.ts'
import type { ModelConfig } from './model-config.ts'
import { decoderStack, type StackOutput, type TokenMixers } from './decoder.ts'
import { headScores, headScoresWithGradient } from './head.ts'
import {
  adapterMatrices,
  embed,
  frozenWeights,
  headWeight,
  type LayerContext,
  type RopeInputs,
} from './layers.ts'
import { lossGraph, type LossVariant } from './loss.ts'
import { groupLinear, type ChunkedRows } from './linear-core.ts'
import { balancingLoss, loadSums, type LoadSums } from './moe.ts'

/** What all graphs of one model are made from. */
export interface ModelSource {
  readonly config: ModelConfig
  readonly checkpoint: Checkpoint
  readonly lora: LoraConfig
  readonly layout: AdapterLayout
}

/** What of a batch shapes the graph itself: how many parts something runs in, one after the other. */
export interface BatchShape {
  /** Of the vocabulary, in the head. */
  readonly headParts: number
  /** Of prompts and completions, in layers of linear attention; 1 in models without. */
  readonly promptChunks: number
  readonly completionChunks: number
}

/** Everything in one part. */
export const ONE_PART: BatchShape = {
  headParts: 1,
  promptChunks: 1,
  completionChunks: 1,
}

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
  isPromptToken: 'is_prompt_token',
  isCompletionToken: 'is_completion_token',
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
 * score_rows [N] (the token, of all T, whose output predicts), targets [N], inverse_temperature, for `below` vocabulary [1, V]; with linear attention is_prompt_token [R, P],
 * is_completion_token [R, G, C] and the levels of both kinds of chunks.
 */
export function scoreGraph(source: ModelSource, shape: BatchShape, withBelow = false): Graph {
  const g = new GraphBuilder()
  const context = layerContext(g, source)
  const { hidden } = scoredRows(context, shape)
  return g.finish({ ...headScores(g, hidden, headWeight(context), shape.headParts, withBelow) })
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
  const { hidden, routings } = scoredRows(context, shape)
  const policy = policyLossOf(context, hidden, variant, shape)
  const { logps, entropies } = policy
  const loads = variant.isBalanced ? layerLoads(context, shape, routings) : undefined
  const loss = withBalance(context, policy.loss, loads)
  const parts = gradients(g, loss, context.adapter.all)
  const gradient = joinGradients(
    g,
    parts.map((part, index) => ({ name: source.layout.tensors[index]?.name ?? '', gradient: part })),
  )
  const reached = [...routings.values()].map(({ chosen }) => g.sum(chosen, [0]))
  const outputs = { loss, gradient, logps, entropies }
  return g.finish(reached.length === 0 ? outputs : { ...outputs, expert_tokens: g.concat(reached, 0) })
}

/**
 * Gradients of matrices as one vector, in their order. They are flattened from the first layer to the last: ONNX Runtime
 * works its way back from what was built last, so that the last layer's come first and a layer's activations can go as
 * soon as its gradients are there.
 */
export function joinGradients(
  g: GraphBuilder,
  matrices: readonly { readonly name: string; readonly gradient: Tensor }[],
): Tensor {
  const flat = matrices
    .map(({ name, gradient }, place) => ({ layer: layerOf(name), gradient, place }))
    .sort((a, b) => a.layer - b.layer || a.place - b.place)
    .map(({ gradient, place }) => ({ place, vector: g.reshape(gradient, [mulDims(...gradient.shape)]) }))
    .sort((a, b) => a.place - b.place)
  return g.concat(
    flat.map(({ vector }) => vector),
    0,
  )
}

/** The layer of an adapter's matrix, by PEFT's name. */
export function layerOf(name: string): number {
  return Number(/\.layers\.(\d+)\./.exec(name)?.[1] ?? -1)
}

/** Loads of some layers' experts, on top of what the layers before had; undefined where there are no experts. */
export function layerLoads(
  { g }: LayerContext,
  shape: BatchShape,
  routings: StackOutput['routings'],
  before?: LoadSums,
): LoadSums | undefined {
  const shares = (): Tensor => g.input('token_shares', [tokenCount(groupDims(shape)), 1])
  return routings.size === 0 ? before : loadSums(g, [...routings.values()], shares(), before)
}

/** A loss and the load-balancing one, at the weight that is fed; the loss alone without loads. */
export function withBalance({ g, config }: LayerContext, loss: Tensor, loads: LoadSums | undefined): Tensor {
  if (config.moe === null || loads === undefined) return loss
  const layers = config.moeLayers.filter((isMoe) => isMoe).length
  return g.add(loss, g.mul(balancingLoss(g, config.moe, loads, layers), g.input('balance', [])))
}

/** The policy's loss of scored rows [N, hidden], and their scores. */
export function policyLossOf(
  context: LayerContext,
  scored: Tensor,
  variant: LossVariant,
  shape: BatchShape,
): { loss: Tensor; logps: Tensor; entropies: Tensor } {
  const { g } = context
  const { logps, entropies } = headScoresWithGradient(g, scored, headWeight(context), shape.headParts)
  const slots = g.input('slots', ['N'], 'i32')
  const padded = g.scatterAddRows(logps, slots, mulDims('B', 'L'))
  return { loss: lossGraph(g, g.reshape(padded, ['B', 'L']), variant), logps, entropies }
}

function layerContext(g: GraphBuilder, { config, checkpoint, layout, lora }: ModelSource): LayerContext {
  return { g, config, weight: frozenWeights(g, checkpoint), adapter: adapterMatrices(g, layout, lora) }
}

/** Hidden rows that predict the scored tokens, divided by the temperature: [N, hidden]. */
export function scoredRows(context: LayerContext, shape: BatchShape): StackOutput {
  const { embedded, rope, mixers } = stackInputs(context, shape)
  const { hidden, routings } = decoderStack(context, embedded(), rope, mixers)
  return { hidden: predictingRows(context, hidden), routings }
}

/** Of all tokens' last states those that predict scored tokens, divided by the temperature. */
export function predictingRows({ g }: LayerContext, hidden: Tensor): Tensor {
  const scored = g.gatherRows(hidden, g.input('score_rows', ['N'], 'i32'))
  return g.mul(scored, g.input('inverse_temperature', []))
}

/** What the layers of a batch of groups take besides their own weights. */
export interface StackInputs {
  /** Number of tokens. */
  readonly tokens: Dim
  /** The tokens' embeddings [T, hidden]. */
  readonly embedded: () => Tensor
  readonly rope: RopeInputs
  readonly mixers: TokenMixers
}

/** Declares the inputs of a batch. */
export function stackInputs(context: LayerContext, shape: BatchShape): StackInputs {
  const { g, config } = context
  const dims = groupDims(shape)
  const { prompts, group, promptLength, completionLength } = dims
  const promptTokens = mulDims(prompts, promptLength)
  const completionTokens = mulDims(prompts, group, completionLength)
  const total = tokenCount(dims)
  const ids = (): Tensor =>
    g.concat(
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
  return { tokens: total, embedded: () => embed(context, ids()), rope, mixers }
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
  // Two inputs, since a graph without a layer of softmax attention learns the batch's sizes from nothing else.
  const flag = (name: string, sizes: readonly Dim[]): Tensor =>
    g.reshape(g.input(name, sizes), [mulDims(...sizes), 1])
  const prompt = flag(LINEAR_INPUTS.isPromptToken, [dims.prompts, dims.promptLength])
  const completion = flag(LINEAR_INPUTS.isCompletionToken, [dims.prompts, dims.group, dims.completionLength])
  return {
    core: groupLinear(context, config.linear, dims.group, prompts, completions),
    isToken: g.concat([prompt, completion], 0),
  }
}

/** All tokens of a run: T. */
function tokenCount({ prompts, group, promptLength, completionLength }: GroupDims): Dim {
  return addDims(mulDims(prompts, promptLength), mulDims(prompts, group, completionLength))
}
