/**
 * One pass forward and backward in segments of layers, so that no more than one segment's activations exist at a time.
 * See models/segment-graphs.ts for what is computed; here is the order, and where the parts of the gradient go.
 */
import type { Feed, Session } from './engine/engine.ts'
import { GspoError } from './errors.ts'
import type { Graph } from './graph/graph.ts'
import type { LayerRange } from './models/decoder.ts'
import type { LossVariant } from './models/loss.ts'
import {
  HIDDEN,
  LOADS,
  lastSegmentGraph,
  segmentBackwardGraph,
  segmentForwardGraph,
  tensorsOf,
} from './models/segment-graphs.ts'
import type { BatchShape, ModelSource } from './models/training-graph.ts'

/** What to run. */
export interface SegmentedPass {
  readonly source: ModelSource
  readonly segments: readonly LayerRange[]
  readonly variant: LossVariant
  readonly shape: BatchShape
  /** Everything that any of the graphs takes, the adapter's matrices by name included. */
  readonly feeds: Readonly<Record<string, Feed>>
  /** Compiles a graph, or finds the session of its key. */
  session(key: string, graph: () => Graph): Promise<Session>
}

/** The outputs that the graph in one piece would have. */
export async function runSegments(pass: SegmentedPass): Promise<Record<string, Feed>> {
  const { source, segments, variant, shape, feeds } = pass
  // The head is the last segment's affair: its parts need no other graphs.
  const inner = { ...shape, headParts: 1 }
  const { isBalanced } = variant
  const innerKey = JSON.stringify([inner, isBalanced])
  const run = async (
    kind: string,
    range: LayerRange,
    graph: () => Graph,
    extra: Record<string, Feed>,
  ): Promise<Record<string, Feed>> => {
    const session = await pass.session(`${kind} ${range.first} ${range.end}`, graph)
    return session.run({ ...feeds, ...extra })
  }
  /** What each segment starts from; the first one from ids. */
  const inputs: Record<string, Feed>[] = [{}]
  for (const [index, range] of segments.slice(0, -1).entries()) {
    const graph = (): Graph => segmentForwardGraph(source, inner, range, isBalanced)
    const out = await run(`forward ${innerKey}`, range, graph, inputs[index] ?? {})
    inputs.push({ [HIDDEN.input]: outputOf(out, HIDDEN.output), ...loadsOf(out) })
  }
  const gradient = new Float32Array(source.layout.length)
  const experts: Feed[] = []
  const results: Record<string, Feed> = { gradient: { dims: [gradient.length], values: gradient } }
  let upstream: Record<string, Feed> = {}
  let allSent: Record<string, Feed> = {}
  for (const [back, range] of segments.toReversed().entries()) {
    const isLast = back === 0
    const out = await run(
      isLast ? `last ${JSON.stringify([variant, shape])}` : `backward ${innerKey}`,
      range,
      () =>
        isLast
          ? lastSegmentGraph(source, variant, shape, range)
          : segmentBackwardGraph(source, inner, range, isBalanced),
      { ...inputs[segments.length - 1 - back], ...upstream, ...allSent },
    )
    const sent = out[LOADS.sums.sent]
    if (isLast && sent !== undefined) allSent = { [LOADS.allSent]: sent }
    scatterGradient(gradient, source, range, outputOf(out, 'gradient'))
    if (out['expert_tokens'] !== undefined) experts.unshift(out['expert_tokens'])
    if (range.first > 0) upstream = { [HIDDEN.upstream]: outputOf(out, HIDDEN.gradient) }
    for (const name of ['loss', 'logps', 'entropies']) if (out[name] !== undefined) results[name] = out[name]
  }
  if (experts.length > 0) {
    const counts = Float32Array.from(experts.flatMap(({ values }) => [...values]))
    results['expert_tokens'] = { dims: [counts.length], values: counts }
  }
  return results
}

/** Loads of experts after a segment, as the next one takes them. */
function loadsOf(out: Readonly<Record<string, Feed>>): Record<string, Feed> {
  const [sent, expected] = [out[LOADS.sums.sent], out[LOADS.sums.expected]]
  return sent === undefined || expected === undefined
    ? {}
    : { [LOADS.before.sent]: sent, [LOADS.before.expected]: expected }
}

/** Puts the gradients of a segment's matrices, one after the other, where the layout has them. */
function scatterGradient(
  into: Float32Array,
  { layout }: ModelSource,
  range: LayerRange,
  { values }: Feed,
): void {
  let at = 0
  for (const index of tensorsOf(layout, range)) {
    const tensor = layout.tensors[index]
    if (tensor === undefined) continue
    const length = tensor.shape[0] * tensor.shape[1]
    into.set(values.subarray(at, at + length), tensor.offset)
    at += length
  }
}

function outputOf(out: Readonly<Record<string, Feed>>, name: string): Feed {
  const feed = out[name]
  if (feed === undefined) throw new GspoError('ENGINE_FAILED', `a segment gave no ${name}`)
  return feed
}
