/** What every engine must do: each primitive as in the float64 reference, with sizes known only at run time. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Engine, Feed } from '../src/engine/engine.ts'
import { gradients } from '../src/graph/gradient.ts'
import { GraphBuilder } from '../src/graph/graph.ts'
import { isIndexInput, numbers, PRIMITIVE_CASES } from './primitive-cases.ts'
import { headCompliance } from './head-compliance.ts'
import { weightCompliance } from './weight-compliance.ts'
import { runReference, type Value } from './reference-engine.ts'

/** Float32 against float64 on numbers of size 1. */
const TOLERANCE = 2e-6

function toFeed(name: string, { dims, values }: Value): Feed {
  return { dims, values: isIndexInput(name) ? Int32Array.from(values) : Float32Array.from(values) }
}

function assertSame(seen: Feed | undefined, expected: Value | undefined): void {
  assert.ok(seen && expected)
  assert.deepEqual([...seen.dims], [...expected.dims])
  expected.values.forEach((value, i) => {
    const off = Math.abs((seen.values[i] ?? NaN) - value)
    assert.ok(
      off <= TOLERANCE * Math.max(1, Math.abs(value)),
      `element ${i}: ${seen.values[i]}, expected ${value}`,
    )
  })
}

/** Registers the suite for one engine. */
export function engineCompliance(name: string, create: () => Promise<Engine>): void {
  describe(`engine ${name}`, () => {
    let engine: Engine
    before(async () => {
      engine = await create()
    })
    after(() => engine.close())

    for (const testCase of PRIMITIVE_CASES)
      it(`computes ${testCase.name} and its gradients as the reference`, async () => {
        const g = new GraphBuilder()
        const input = (key: string) =>
          g.input(key, testCase.feeds[key]?.dims ?? [], isIndexInput(key) ? 'i32' : 'f32')
        const result = testCase.build(g, input)
        const total =
          result.dtype === 'f32'
            ? g.sum(
                g.mul(result, result),
                result.shape.map((_, axis) => axis),
              )
            : undefined
        const wanted = total === undefined ? [] : gradients(g, total, testCase.wanted.map(input))
        const outputs = Object.fromEntries(wanted.map((tensor, index) => [`gradient${index}`, tensor]))
        const graph = g.finish({ result, ...outputs })
        const session = await engine.compile(graph, { weights: 'share' })
        const feeds = Object.fromEntries(
          Object.entries(testCase.feeds).map(([key, value]) => [key, toFeed(key, value)]),
        )
        const seen = await session.run(feeds)
        await session.close()
        const expected = runReference(graph, testCase.feeds)
        for (const key of Object.keys(expected)) assertSame(seen[key], expected[key])
      })

    it('runs one graph at different sizes of its symbols', async () => {
      const g = new GraphBuilder()
      const x = g.input('x', ['B', 'S', 4])
      const flat = g.reshape(g.transpose(x, [1, 0, 2]), ['B*S', 4])
      const head = g.slice(flat, 0, 0, 'S')
      const graph = g.finish({
        head,
        wide: g.expand(g.constant(1), ['S', 'B']),
        joined: g.concat([flat, head], 0),
      })
      const session = await engine.compile(graph, { weights: 'share' })
      for (const [rows, length] of [
        [2, 3],
        [1, 1],
        [4, 2],
      ] as const) {
        const feed = {
          dims: [rows, length, 4],
          values: Float64Array.from({ length: rows * length * 4 }, (_, i) => i),
        }
        const seen = await session.run({ x: toFeed('x', feed) })
        const expected = runReference(graph, { x: feed })
        for (const key of Object.keys(expected)) assertSame(seen[key], expected[key])
      }
      await session.close()
    })

    it('writes outputs into memory of the caller', async () => {
      const g = new GraphBuilder()
      const graph = g.finish({ y: g.unary('neg', g.input('x', ['N'])) })
      const session = await engine.compile(graph, { weights: 'share' })
      const target = new Float32Array(2)
      await session.run(
        { x: { dims: [2], values: Float32Array.of(1, -2) } },
        { y: { dims: [2], values: target } },
      )
      await session.close()
      assert.deepEqual([...target], [-1, 2])
    })

    it('adds up a million numbers to one part in a hundred thousand', async () => {
      const values = Float32Array.from(numbers(1 << 20, 43), Math.abs)
      const g = new GraphBuilder()
      const graph = g.finish({ total: g.sum(g.input('x', ['N']), [0]) })
      const session = await engine.compile(graph, { weights: 'share' })
      const seen = await session.run({ x: { dims: [values.length], values } })
      await session.close()
      const expected = Float64Array.from(values).reduce((sum, value) => sum + value, 0)
      assert.ok(Math.abs((seen['total']?.values[0] ?? NaN) - expected) <= 1e-5 * expected)
    })

    it('computes with rows of which there are none', async () => {
      const g = new GraphBuilder()
      const x = g.input('x', ['N', 2])
      const isNegative = g.binary('less', g.reshape(g.slice(x, 1, 0, 1), ['N']), g.constant(0))
      const index = g.nonZero(isNegative)
      const rows = g.matmul(g.gatherRows(x, index), g.input('w', [2, 2]))
      const graph = g.finish({
        spread: g.scatterAddRows(g.concat([rows, rows], 0), g.concat([index, index], 0), 'N'),
      })
      const session = await engine.compile(graph, { weights: 'share' })
      const w = { dims: [2, 2], values: Float32Array.of(1, 2, 3, 4) }
      const none = await session.run({ x: { dims: [2, 2], values: Float32Array.of(1, 1, 1, 1) }, w })
      const one = await session.run({ x: { dims: [2, 2], values: Float32Array.of(1, 1, -1, 1) }, w })
      await session.close()
      assert.deepEqual([...(none['spread']?.values ?? [])], [0, 0, 0, 0])
      // Twice [-1, 1] times the matrix, in the second row.
      assert.deepEqual([...(one['spread']?.values ?? [])], [0, 0, 4, 4])
    })

    it('refuses an index outside of what it picks from, by name', async () => {
      const g = new GraphBuilder()
      const rows = g.gatherRows(g.input('x', ['T', 1]), g.reshape(g.input('i', ['N', 1], 'i32'), ['N']))
      const session = await engine.compile(g.finish({ rows }), { weights: 'share' })
      const x = { dims: [3, 1], values: new Float32Array(3) }
      for (const outside of [-1, 3]) {
        const i = { dims: [2, 1], values: Int32Array.of(0, outside) }
        const wanted = new RegExp(`element 1 of input i is ${outside}, .* below 3`)
        await assert.rejects(session.run({ x, i }), { code: 'ENGINE_FAILED', message: wanted })
      }
      await session.close()
    })

    it('refuses feeds whose sizes contradict the graph or one another', async () => {
      const g = new GraphBuilder()
      const sum = g.add(g.input('x', ['N', 2]), g.input('y', ['N', 2]))
      const session = await engine.compile(g.finish({ sum }), { weights: 'share' })
      const feed = (rows: number, columns: number): Feed => ({
        dims: [rows, columns],
        values: new Float32Array(rows * columns),
      })
      for (const [x, y] of [
        [feed(2, 2), feed(3, 2)],
        [feed(2, 3), feed(2, 2)],
        [feed(2, 2), { ...feed(2, 2), values: new Float32Array(3) }],
        [feed(2, 2), { ...feed(2, 2), values: new Int32Array(4) }],
      ] as const)
        await assert.rejects(session.run({ x, y }), { code: 'ENGINE_FAILED' })
      await session.close()
    })

    weightCompliance(() => engine)
    headCompliance(() => engine)

    it('names an input that was not fed, and refuses to run when closed', async () => {
      const g = new GraphBuilder()
      const session = await engine.compile(g.finish({ y: g.unary('neg', g.input('x', [1])) }), {
        weights: 'share',
      })
      await assert.rejects(session.run({}), { code: 'ENGINE_FAILED', message: /x/ })
      await session.close()
      await assert.rejects(session.run({}), { code: 'CLOSED' })
    })
  })
}
