import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { gradients } from '../src/graph/gradient.ts'
import { GraphBuilder } from '../src/graph/graph.ts'
import type { Tensor } from '../src/graph/ops.ts'
import { isIndexInput, numbers, PRIMITIVE_CASES, type PrimitiveCase } from './primitive-cases.ts'
import { runReference, type Value } from './reference-engine.ts'

/** A step of 1e-5 in float64: the central difference is off by about 1e-10 times the third derivative. */
const STEP = 1e-5
const TOLERANCE = 1e-7

function declare(g: GraphBuilder, feeds: Readonly<Record<string, Value>>): (name: string) => Tensor {
  return (name) => g.input(name, feeds[name]?.dims ?? [], isIndexInput(name) ? 'i32' : 'f32')
}

/** A weighted sum of the result, so that no two of its elements count the same. */
function scalarOf(g: GraphBuilder, result: Tensor): Tensor {
  const shape = result.shape.filter((dim) => typeof dim === 'number')
  const weights = [
    ...numbers(
      shape.reduce((a, b) => a * b, 1),
      99,
    ),
  ]
  const axes = shape.map((_, axis) => axis)
  return g.sum(g.mul(result, g.constant(weights, shape)), axes)
}

function differences(testCase: PrimitiveCase, name: string): Float64Array {
  const g = new GraphBuilder()
  const graph = g.finish({ y: scalarOf(g, testCase.build(g, declare(g, testCase.feeds))) })
  const value = (feeds: Readonly<Record<string, Value>>): number =>
    runReference(graph, feeds)['y']?.values[0] ?? NaN
  const input = testCase.feeds[name] ?? { dims: [], values: new Float64Array(0) }
  return input.values.map((_, i) => {
    const moved = (by: number): Record<string, Value> => {
      const values = input.values.slice()
      values[i] = (values[i] ?? 0) + by
      return { ...testCase.feeds, [name]: { dims: input.dims, values } }
    }
    return (value(moved(STEP)) - value(moved(-STEP))) / (2 * STEP)
  })
}

describe('gradients of primitives are finite differences in float64', () => {
  for (const testCase of PRIMITIVE_CASES)
    for (const name of testCase.wanted)
      it(`${testCase.name}, to ${name}`, () => {
        const g = new GraphBuilder()
        const input = declare(g, testCase.feeds)
        const scalar = scalarOf(g, testCase.build(g, input))
        const [gradient] = gradients(g, scalar, [input(name)])
        assert.ok(gradient)
        const seen = runReference(g.finish({ gradient }), testCase.feeds)['gradient']
        const expected = differences(testCase, name)
        assert.deepEqual(seen?.dims, testCase.feeds[name]?.dims)
        expected.forEach((value, i) =>
          assert.ok(
            Math.abs((seen.values[i] ?? NaN) - value) <= TOLERANCE * Math.max(1, Math.abs(value)),
            `element ${i}: ${seen.values[i]} and ${value}`,
          ),
        )
      })
})

describe('gradients', () => {
  const scalarGraph = (build: (g: GraphBuilder, x: Tensor) => Tensor): number[] => {
    const g = new GraphBuilder()
    const x = g.input('x', [2])
    const [gradient] = gradients(g, build(g, x), [x])
    assert.ok(gradient)
    const feed = { dims: [2], values: Float64Array.of(3, 5) }
    return [...(runReference(g.finish({ gradient }), { x: feed })['gradient']?.values ?? [])]
  }

  it('are zero for what the scalar does not depend on', () => {
    assert.deepEqual(
      scalarGraph((g) => g.constant(7)),
      [0, 0],
    )
  })

  it('add up over all uses of a tensor', () => {
    // d/dx sum(x * x + x) = 2x + 1
    assert.deepEqual(
      scalarGraph((g, x) => g.sum(g.add(g.mul(x, x), x), [0])),
      [7, 11],
    )
  })

  it('stop at stopGradient', () => {
    // x * stop(x): only the first factor counts.
    assert.deepEqual(
      scalarGraph((g, x) => g.sum(g.mul(x, g.stopGradient(x)), [0])),
      [3, 5],
    )
  })

  it('of attachGradient are the attached ones', () => {
    const seen = scalarGraph((g, x) => {
      const rows = g.reshape(x, [1, 2])
      return g.sum(g.attachGradient(g.constant([0], [1]), rows, g.constant([10, 20], [1, 2])), [0])
    })
    assert.deepEqual(seen, [10, 20])
  })

  it('split evenly where min and max meet a tie, as in PyTorch', () => {
    assert.deepEqual(
      scalarGraph((g, x) => g.sum(g.binary('min', x, x), [0])),
      [1, 1],
    )
    assert.deepEqual(
      scalarGraph((g, x) => g.sum(g.binary('max', x, g.constant(3)), [0])),
      [0.5, 1],
    )
  })

  it('refuse a result that is no scalar', () => {
    assert.throws(() => scalarGraph((_g, x) => x), { code: 'BAD_GRAPH', message: /scalar/ })
  })
})
