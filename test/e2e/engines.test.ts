/** Two real daemons with different engines, ONNX Runtime and TensorFlow.js, train in one ring and stay equal. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { it } from 'node:test'
import { demoFlags, settings, temporaryFolder, TestDaemon } from './daemon-harness.ts'

it('a ring of onnx-cpu and tfjs commits the same adapters, and the slow one says so', async (t) => {
  const folder = await temporaryFolder(t)
  const start = (index: number, engine: string, more: readonly string[]): TestDaemon =>
    TestDaemon.start(t, join(folder, `node-${index}`), [
      ...demoFlags(200 + index),
      ...settings({
        'train.engine': engine,
        'train.prompts_per_step': 1,
        'train.aggregate_interval': 1,
        'ring.min_members': 2,
      }),
      ...more,
    ])
  const onnx = start(0, 'onnx-cpu', [])
  const tfjs = start(1, 'tfjs', ['--bootstrap', (await onnx.whereabouts()).addresses.join(',')])
  const warning = await tfjs.waitFor('its engine', ({ msg }) => msg.startsWith('tfjs, '))
  assert.match(warning.msg, /WebAssembly.*npm install @tensorflow\/tfjs-node-gpu/)
  assert.equal(warning.level, 40)
  await Promise.all([onnx, tfjs].map((daemon) => daemon.waitForRound(1)))
  for (const daemon of [tfjs, onnx])
    assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.stderr)
  assert.ok(onnx.adapters().has(1))
  assert.equal(tfjs.adapters().get(1), onnx.adapters().get(1))
})
