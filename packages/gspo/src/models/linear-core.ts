/**
 * The core of Gated DeltaNet layers, a causal convolution and the delta rule, over rows of tokens that go on from a
 * state: from none and from their prompt's (training), or from one that the caller keeps (decoding).
 */
import { addDims, mulDims, type Dim } from '../graph/dims.ts'
import { dimOf, type GraphBuilder } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import type { LinearAttentionConfig } from './model-config.ts'
import { deltaRule, type Levels } from './delta-rule.ts'
import type { LinearCore, MixerInputs } from './gated-delta-net.ts'
import { silu, type LayerContext } from './layers.ts'
import { linearAttentionModule, linearSizes } from './modules.ts'

/** Keeps roots of sums of squares away from 0, as in transformers. */
const L2_EPSILON = 1e-6

/** What a sequence leaves behind in one layer. */
export interface LinearState {
  /** The last inputs of the convolution: [rows, kernel - 1, channels]. */
  readonly recent: Tensor
  /** [rows, valueHeads, keySize, valueSize] */
  readonly memory: Tensor
}

/** Sequences of equal length, in whole chunks. */
export interface ChunkedRows {
  readonly rows: Dim
  readonly chunks: number
  readonly chunkLength: Dim
  readonly levels: Levels
}

/** Runs rows of tokens [rows * length, ...] on from a state. */
export function runRows(
  { g, weight }: LayerContext,
  sizes: LinearAttentionConfig,
  layer: number,
  inputs: MixerInputs,
  { rows, chunks, chunkLength, levels }: ChunkedRows,
  state: LinearState,
): { output: Tensor; state: LinearState } {
  const { keyHeads, valueHeads, keySize, valueSize, kernel } = sizes
  const { keys, values, channels } = linearSizes(sizes)
  const share = valueHeads / keyHeads
  const length = mulDims(chunks, chunkLength)
  const heads = mulDims(rows, keyHeads)
  const kernelWeight = weight(`${linearAttentionModule(layer)}.conv1d.weight`, [channels, 1, kernel])
  const taps = g.transpose(g.reshape(kernelWeight, [channels, kernel]), [1, 0])
  const joined = g.concat([state.recent, g.reshape(inputs.mixed, [rows, length, channels])], 1)
  const convolved = Array.from({ length: kernel }, (_, tap) =>
    g.mul(g.slice(joined, 1, tap, addDims(tap, length)), g.slice(taps, 0, tap, tap + 1)),
  ).reduce((sum, part) => g.add(sum, part))
  const active = silu(g, convolved)
  const q = g.slice(active, 2, 0, keys)
  const k = g.slice(active, 2, keys, 2 * keys)
  const v = g.slice(active, 2, 2 * keys, channels)

  /** Each head's numbers divided by the root of their sum of squares. */
  const unit = (x: Tensor): Tensor => {
    const perHead = g.reshape(x, [mulDims(rows, length, keyHeads), keySize])
    const squares = g.sum(g.mul(perHead, perHead), [1], true)
    return g.reshape(g.div(perHead, g.unary('sqrt', g.add(squares, g.constant(L2_EPSILON)))), x.shape)
  }
  /** [rows, length, keyHeads * perHead * size] to [heads, perHead, chunks, chunkLength, size]. */
  const byHead = (x: Tensor, perHead: number, size: number): Tensor =>
    g.reshape(g.transpose(g.reshape(x, [rows, length, keyHeads, perHead, size]), [0, 2, 3, 1, 4]), [
      heads,
      perHead,
      chunks,
      chunkLength,
      size,
    ])
  const { output, state: memory } = deltaRule(
    g,
    {
      queries: byHead(unit(q), 1, keySize),
      keys: byHead(unit(k), 1, keySize),
      values: byHead(v, share, valueSize),
      rate: byHead(inputs.rate, share, 1),
      logDecay: byHead(inputs.logDecay, share, 1),
    },
    g.reshape(state.memory, [heads, share, keySize, valueSize]),
    levels,
  )
  const perRow = g.reshape(output, [rows, valueHeads, length, valueSize])
  return {
    output: g.reshape(g.transpose(perRow, [0, 2, 1, 3]), [mulDims(rows, length), values]),
    state: {
      recent: g.slice(joined, 1, length, addDims(kernel - 1, length)),
      memory: g.reshape(memory, [rows, valueHeads, keySize, valueSize]),
    },
  }
}

/** The state before the first token. */
export function emptyState(g: GraphBuilder, sizes: LinearAttentionConfig, rows: Dim): LinearState {
  const zeros = (shape: Dim[]): Tensor => g.expand(g.constant(0), shape)
  return {
    recent: zeros([rows, sizes.kernel - 1, linearSizes(sizes).channels]),
    memory: zeros([rows, sizes.valueHeads, sizes.keySize, sizes.valueSize]),
  }
}

/** Prompts once, then the completions of each group from where their prompt ended. Tokens as in `groupAttention`. */
export function groupLinear(
  context: LayerContext,
  sizes: LinearAttentionConfig,
  group: Dim,
  prompts: ChunkedRows,
  completions: ChunkedRows,
): LinearCore {
  const { g } = context
  return (layer, inputs) => {
    const promptTokens = mulDims(prompts.rows, prompts.chunks, prompts.chunkLength)
    const part = (from: Dim, to: Dim): MixerInputs => ({
      mixed: g.slice(inputs.mixed, 0, from, to),
      rate: g.slice(inputs.rate, 0, from, to),
      logDecay: g.slice(inputs.logDecay, 0, from, to),
    })
    const before = emptyState(g, sizes, prompts.rows)
    const first = runRows(context, sizes, layer, part(0, promptTokens), prompts, before)
    const rest = part(promptTokens, dimOf(inputs.mixed, 0))
    const forked = {
      recent: repeatRows(g, first.state.recent, group),
      memory: repeatRows(g, first.state.memory, group),
    }
    const second = runRows(context, sizes, layer, rest, completions, forked)
    return g.concat([first.output, second.output], 0)
  }
}

/** Rows that go on from a state that the caller keeps; `onNew` is handed what they leave behind. */
export function keptLinear(
  context: LayerContext,
  sizes: LinearAttentionConfig,
  rows: ChunkedRows,
  stateOf: (layer: number) => LinearState,
  onNew: (layer: number, state: LinearState) => void,
): LinearCore {
  return (layer, inputs) => {
    const { output, state } = runRows(context, sizes, layer, inputs, rows, stateOf(layer))
    onNew(layer, state)
    return output
  }
}

/** [rows, ...] to [rows * times, ...], each row `times` in a row. */
function repeatRows(g: GraphBuilder, x: Tensor, times: Dim): Tensor {
  const [rows, ...rest] = x.shape as [Dim, ...Dim[]]
  const wide = g.expand(g.reshape(x, [rows, 1, ...rest]), [rows, times, ...rest])
  return g.reshape(wide, [mulDims(rows, times), ...rest])
}
