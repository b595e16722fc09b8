/** Mixture of experts: routing, dispatch of each token to its experts only, and the load-balancing loss. */
import { addDims, type Dim } from '../graph/dims.ts'
import { dimOf, type GraphBuilder } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import type { MoeConfig } from './config.ts'
import { gatedFeedForward, linear, type LayerContext } from './layers.ts'
import { expertNames, routerModule, sharedExpertModule, sharedExpertNames } from './modules.ts'

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
  const byExpert = g.transpose(chosen, [1, 0])
  const sharesByExpert = g.transpose(g.scatterPick(shares, best, moe.experts), [1, 0])

  const rows = Array.from({ length: moe.experts }, (_, expert) => {
    const row = g.reshape(g.slice(byExpert, 0, expert, expert + 1), [tokens])
    return g.nonZero(g.cast(row, 'bool'))
  })
  const order = g.concat(rows, 0)
  const sorted = g.gatherRows(x, order)
  let start: Dim = 0
  const outputs = rows.map((row, expert) => {
    const end = addDims(start, dimOf(row, 0))
    const own = g.slice(sorted, 0, start, end)
    start = end
    return gatedFeedForward(context, expertNames(config, layer, expert), own, moe.expertSize)
  })
  const sortedShares = rows.map((row, expert) =>
    g.gatherRows(g.reshape(g.slice(sharesByExpert, 0, expert, expert + 1), [tokens, 1]), row),
  )
  const weighted = g.mul(g.concat(outputs, 0), g.concat(sortedShares, 0))
  const routed = g.scatterAddRows(weighted, order, tokens)
  const output =
    moe.sharedExpertSize === null
      ? routed
      : g.add(routed, sharedExpert(context, moe.sharedExpertSize, layer, x))
  return { output, routing: { probabilities, chosen } }
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
