import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Feed } from '../src/engine/engine.ts'
import { compileOnnx } from '../src/engine/onnx-session.ts'
import { compileInStages } from '../src/engine/staged-session.ts'
import { gradients } from '../src/graph/gradient.ts'
import { GraphBuilder, type Graph } from '../src/graph/graph.ts'
import { nodesOf, splitStages } from '../src/graph/stages.ts'
import { numbers } from './primitive-cases.ts'
import { runReference, type Value } from './reference-engine.ts'

const [TOKENS, WIDTH, EXPERTS] = [7, 3, 4]

/** Two layers that send each token to one of four experts, their output, and gradients to all matrices. */
function expertGraph(): Graph {
  const g = new GraphBuilder()
  const matrices = Array.from({ length: 2 * EXPERTS }, (_, index) => g.input(`w${index}`, [WIDTH, WIDTH]))
  let x = g.input('x', ['T', WIDTH])
  for (const layer of [0, 1]) {
    const scores = g.softmax(g.matmul(x, g.input(`router${layer}`, [EXPERTS, WIDTH]), { transB: true }))
    const best = g.topIndices(scores, 1)
    const ones = g.expand(g.constant(1), ['T', 1])
    const chosen = g.scatterPick(ones, best, EXPERTS)
    const places = g.nonZero(g.cast(g.transpose(chosen, [1, 0]), 'bool'))
    const order = g.reshape(g.slice(places, 0, 1, 2), [places.shape[1] ?? 0])
    const counts = g.cast(g.sum(chosen, [0]), 'i32')
    const own = matrices.slice(layer * EXPERTS, (layer + 1) * EXPERTS)
    const products = g.groupMatmul(g.gatherRows(x, order), counts, own, { transB: true })
    x = g.add(x, g.scatterAddRows(g.unary('sigmoid', products), order, 'T'))
  }
  const all = gradients(g, g.sum(g.mul(x, x), [0, 1]), matrices)
  return g.finish({ x, ...Object.fromEntries(all.map((tensor, index) => [`d${index}`, tensor])) })
}

function feeds(): Record<string, Value> {
  const square = WIDTH * WIDTH
  const matrices = Array.from({ length: 2 * EXPERTS }, (_, index): [string, Value] => [
    `w${index}`,
    { dims: [WIDTH, WIDTH], values: numbers(square, index) },
  ])
  const routers = [0, 1].map((layer): [string, Value] => [
    `router${layer}`,
    { dims: [EXPERTS, WIDTH], values: numbers(EXPERTS * WIDTH, 20 + layer) },
  ])
  const x = { dims: [TOKENS, WIDTH], values: numbers(TOKENS * WIDTH, 30) }
  return { x, ...Object.fromEntries([...matrices, ...routers]) }
}

describe('stages of a graph', () => {
  const graph = expertGraph()
  const whole = runReference(graph, feeds())

  for (const most of [1, 10, 40])
    it(`of ${most} nodes give exactly what the graph in one piece gives`, () => {
      const stages = splitStages(graph, most)
      assert.ok(stages.length > 1)
      const live = feeds()
      for (const stage of stages) Object.assign(live, runReference(stage, live))
      for (const { name } of graph.outputs) assert.deepEqual(live[name], whole[name])
    })

  it('hold no more nodes than asked for, or one operation', () => {
    for (const { tensors } of splitStages(graph, 10)) {
      const heavy = tensors.map(nodesOf).filter((nodes) => nodes > 1)
      // Sources, conditions and constants are made anew and count for nothing.
      assert.ok(heavy.length <= 1 || heavy.reduce((sum, nodes) => sum + nodes, 0) <= 10)
    }
    assert.equal(splitStages(graph, 1e6).length, 1)
  })

  it('run on ONNX Runtime as one session', async () => {
    const compile = (part: Graph, isStage: boolean): ReturnType<typeof compileOnnx> =>
      compileOnnx(part, { provider: 'cpu', threads: 1, weights: 'share', isStage })
    const session = await compileInStages(graph, compile, { whole: 1, stage: 10 })
    const inputs = Object.fromEntries(
      Object.entries(feeds()).map(([name, { dims, values }]): [string, Feed] => [
        name,
        { dims, values: Float32Array.from(values) },
      ]),
    )
    for (let run = 0; run < 2; run++) {
      const out = await session.run(inputs)
      assert.deepEqual(Object.keys(out).sort(), Object.keys(whole).sort())
      for (const [name, { values }] of Object.entries(whole))
        values.forEach((value, i) =>
          assert.ok(
            Math.abs((out[name]?.values[i] ?? NaN) - value) <= 2e-6 * Math.max(1, Math.abs(value)),
            name,
          ),
        )
    }
    await session.close()
  })
})
