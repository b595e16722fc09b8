import assert from 'node:assert/strict'
import { it } from 'node:test'
import * as tf from '@tensorflow/tfjs-core'
import { createTfjsEngine } from '../src/engine/tfjs.ts'
import { GraphBuilder } from '../src/graph/graph.ts'
import { WASM_PACKAGE, type ImportPackage } from '../src/tfjs/library.ts'
import { engineCompliance } from './engine-compliance.ts'

const withoutWasm: ImportPackage = (name) =>
  name === WASM_PACKAGE
    ? Promise.reject(
        Object.assign(new Error(`Cannot find package '${name}'`), { code: 'ERR_MODULE_NOT_FOUND' }),
      )
    : import(name)

engineCompliance('tfjs in WebAssembly', () => createTfjsEngine({ threads: 1 }))
engineCompliance('tfjs in JavaScript', () => createTfjsEngine({ threads: 1 }, withoutWasm))

it('engine tfjs keeps no tensor of a run that fails half-way', async () => {
  const engine = await createTfjsEngine({ threads: 1 })
  const g = new GraphBuilder()
  const doubled = g.add(g.input('x', [1, 1]), g.input('x', [1, 1]))
  // As many columns as 32-bit offsets do not reach.
  const wide = g.scatterPick(doubled, g.input('i', [1, 1], 'i32'), 2 ** 31)
  const session = await engine.compile(g.finish({ most: g.maximum(wide, [1]) }), { weights: 'share' })
  const before = tf.memory().numTensors
  const x = { dims: [1, 1], values: Float32Array.of(1) }
  const i = { dims: [1, 1], values: Int32Array.of(0) }
  await assert.rejects(session.run({ x, i }), { code: 'ENGINE_FAILED', message: /32-bit offsets/ })
  assert.equal(tf.memory().numTensors, before)
  await session.close()
  await engine.close()
})

it('engine tfjs says that JavaScript is slow', async () => {
  const engine = await createTfjsEngine({ threads: 1 }, withoutWasm)
  assert.match(engine.note.text, /JavaScript.*npm install @tensorflow\/tfjs-node-gpu/)
  assert.equal(engine.note.isWarning, true)
  await engine.close()
})
