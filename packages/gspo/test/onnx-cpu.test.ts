import assert from 'node:assert/strict'
import { it } from 'node:test'
import { createOnnxCpuEngine } from '../src/engine/onnx-cpu.ts'
import { GraphBuilder } from '../src/graph/graph.ts'
import { engineCompliance } from './engine-compliance.ts'

engineCompliance('onnx-cpu', async () => createOnnxCpuEngine({ threads: 1 }))

it('onnx-cpu on two threads adds up every row where many meet', async () => {
  const [rows, width, places] = [20_000, 128, 2]
  const g = new GraphBuilder()
  // The product makes it a graph that is worth two threads.
  const x = g.matmul(g.input('x', ['N', width]), g.input('w', [width, width]))
  const sums = g.scatterAddRows(x, g.input('i', ['N'], 'i32'), places)
  const engine = createOnnxCpuEngine({ threads: 2 })
  const session = await engine.compile(g.finish({ sums }), { weights: 'share' })
  const identity = Float32Array.from({ length: width * width }, (_, at) => Number(at % (width + 1) === 0))
  for (let run = 0; run < 10; run++) {
    const out = await session.run({
      x: { dims: [rows, width], values: new Float32Array(rows * width).fill(1) },
      w: { dims: [width, width], values: identity },
      i: { dims: [rows], values: Int32Array.from({ length: rows }, (_, row) => row % places) },
    })
    assert.deepEqual(new Set(out['sums']?.values), new Set([rows / places]))
  }
  await session.close()
  await engine.close()
})

it('onnx-cpu leaves no copy of an output behind that was written where the caller wanted it', async () => {
  const size = 1 << 18
  const g = new GraphBuilder()
  const engine = createOnnxCpuEngine({ threads: 1 })
  const graph = g.finish({ y: g.unary('neg', g.input('x', ['N'])) })
  const session = await engine.compile(graph, { weights: 'share' })
  const x = { dims: [size], values: new Float32Array(size).fill(1) }
  const y = { dims: [size], values: new Float32Array(size) }
  await session.run({ x }, { y })
  const before = process.memoryUsage().arrayBuffers
  for (let run = 0; run < 16; run++) await session.run({ x }, { y })
  const grown = process.memoryUsage().arrayBuffers - before
  assert.equal(y.values[size - 1], -1)
  assert.ok(grown < 4 * size, `16 runs left ${grown} bytes behind`)
  await session.close()
  await engine.close()
})
