/** Mixture of experts: routing, dispatch of each token to its experts only, and the load-balancing loss. */
import { GspoError } from '../errors.ts'
import { mulDims } from '../graph/dims.ts'
import { dimOf, type GraphBuilder } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import type { MoeConfig } from './model-config.ts'
import { gatedFeedForward, linear, silu, type LayerContext } from './layers.ts'
import {
  expertNames,
  type FeedForwardNames,
  routerModule,
  sharedExpertModule,
  sharedExpertNames,
} from './modules.ts'

/** What the router of one layer decided for T tokens. */
export interface Routing {
  /** Softmax over the experts, [T, experts]. */
  readonly probabilities: Tensor
  /** 1 where a token goes to an expert, [T, experts]. */
  readonly chosen: Tensor
}

/** The feed-forward of a layer of experts for x [T, hidden]; an expert computes only the tokens sent to it. */
export function expertFeedForward(
  context: LayerContext,
  moe: MoeConfig,
  layer: number,
  x: Tensor,
): { output: Tensor; routing: Routing } {
  const { g, config } = context
  const tokens = dimOf(x, 0)
  const logits = linear(context, routerModule(config, layer), x, moe.experts)
  const probabilities = g.softmax(logits)
  const best = g.topIndices(probabilities, moe.expertsPerToken)
  const picked = g.pick(probabilities, best)
  const shares = moe.normalise ? g.div(picked, g.sum(picked, [1], true)) : picked
  const ones = g.expand(g.constant(1), [tokens, moe.expertsPerToken])
  const chosen = g.scatterPick(ones, best, moe.experts)

  // Rows of x once for each expert that they go to, those of the first expert first.
  const places = g.nonZero(g.cast(g.transpose(chosen, [1, 0]), 'bool'))
  const count = dimOf(places, 1)
  const [experts, order] = [0, 1].map((row) => g.reshape(g.slice(places, 0, row, row + 1), [count]))
  if (experts === undefined || order === undefined) throw new GspoError('BAD_GRAPH', 'no places of experts')
  const groups = { counts: g.cast(g.sum(chosen, [0]), 'i32'), size: moe.expertSize }
  const names = Array.from({ length: moe.experts }, (_, expert) => expertNames(config, layer, expert))
  const outputs = groupFeedForward(context, names, g.gatherRows(x, order), groups)
  const flatShares = g.reshape(g.scatterPick(shares, best, moe.experts), [mulDims(tokens, moe.experts), 1])
  const flatPlaces = g.add(g.mul(order, g.constant(moe.experts, [], 'i32')), experts)
  const weighted = g.mul(outputs, g.gatherRows(flatShares, flatPlaces))
  const routed = g.scatterAddRows(weighted, order, tokens)
  const output =
    moe.sharedExpertSize === null
      ? routed
      : g.add(routed, sharedExpert(context, moe.sharedExpertSize, layer, x))
  return { output, routing: { probabilities, chosen } }
}

/** down(silu(gate(x)) * up(x)), each group of rows with the matrices of its expert. */
function groupFeedForward(
  context: LayerContext,
  experts: readonly FeedForwardNames[],
  x: Tensor,
  { counts, size }: { counts: Tensor; size: number },
): Tensor {
  const { g, config } = context
  const project = (part: keyof FeedForwardNames, input: Tensor, width: number): Tensor =>
    groupLinear(
      context,
      experts.map((names) => names[part]),
      input,
      counts,
      width,
    )
  const active = g.mul(silu(g, project('gate', x, size)), project('up', x, size))
  return project('down', active, config.hiddenSize)
}

/** `linear` of each group of rows with a module of its own. */
function groupLinear(
  { g, weight, adapter }: LayerContext,
  modules: readonly string[],
  x: Tensor,
  counts: Tensor,
  outSize: number,
): Tensor {
  const shape = [outSize, Number(dimOf(x, 1))]
  const matrices = modules.map((module) => weight(`${module}.weight`, shape, 'matrix'))
  const y = g.groupMatmul(x, counts, matrices, { transB: true })
  const loras = modules.flatMap((module) => adapter.of(module) ?? [])
  if (loras.length === 0) return y
  const low = g.groupMatmul(
    x,
    counts,
    loras.map(({ a }) => a),
    { transB: true },
  )
  const high = g.groupMatmul(
    low,
    counts,
    loras.map(({ b }) => b),
    { transB: true, alpha: adapter.scale },
  )
  return g.add(y, high)
}

/** The expert of all tokens, behind a gate of one number a token. */
function sharedExpert(context: LayerContext, size: number, layer: number, x: Tensor): Tensor {
  const gate = linear(context, `${sharedExpertModule(layer)}_gate`, x, 1)
  const output = gatedFeedForward(context, sharedExpertNames(layer), x, size)
  return context.g.mul(context.g.unary('sigmoid', gate), output)
}

/** Sums over tokens, weighted, and layers: what the load-balancing loss is made of, [experts] each. */
export interface LoadSums {
  /** Of tokens sent to each expert. */
  readonly sent: Tensor
  /** Of the router's probabilities. */
  readonly expected: Tensor
}

/**
 * Adds some layers' loads, in their order, to what the layers before had. `tokenShares` [T, 1] weigh the tokens and sum
 * to 1.
 */
export function loadSums(
  g: GraphBuilder,
  routings: readonly Routing[],
  tokenShares: Tensor,
  before?: LoadSums,
): LoadSums | undefined {
  const shared = (part: Tensor): Tensor => g.sum(g.mul(part, tokenShares), [0])
  return routings.reduce<LoadSums | undefined>((sums, { chosen, probabilities }) => {
    const own = { sent: shared(chosen), expected: shared(probabilities) }
    return sums === undefined
      ? own
      : { sent: g.add(sums.sent, own.sent), expected: g.add(sums.expected, own.expected) }
  }, before)
}

/**
 * The load-balancing loss (Switch Transformer, arXiv 2101.03961, as in transformers): experts * sum over experts of
 * the share of tokens sent there times the mean probability, both means over so many layers.
 */
export function balancingLoss(
  g: GraphBuilder,
  { experts }: MoeConfig,
  { sent, expected }: LoadSums,
  layers: number,
): Tensor {
  const mean = (sum: Tensor): Tensor => g.mul(sum, g.constant(1 / layers))
  return g.mul(g.sum(g.mul(g.stopGradient(mean(sent)), mean(expected)), [0]), g.constant(experts))
}
