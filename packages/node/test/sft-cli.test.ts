/** `gym-node sft`: a model from random weights, as its user makes one. */
import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { readModelConfig } from '../../gspo/src/models/config.ts'
import { openCheckpoint } from '../../gspo/src/weights/checkpoint.ts'
import { DEMO, runCommand, temporaryFolder } from '../../../test/e2e/daemon-harness.ts'

it('gym-node sft trains a whole model from random weights and writes its folder', async (t) => {
  const folder = await temporaryFolder(t)
  const rows = (await readFile(join(DEMO, 'train.jsonl'), 'utf8')).split('\n').slice(0, 40)
  const data = join(folder, 'rows.jsonl')
  await writeFile(data, `${rows.join('\n')}\n`)
  const out = join(folder, 'model')
  const flags = ['--model', DEMO, '--dataset', data, '--out', out, '--threads', '1', '--seed', '3']
  const { code, stdout, stderr } = await runCommand([
    'sft',
    ...flags,
    ...['--eval-dataset', data, '--max-steps', '3', '--batch-size', '8', '--json'],
  ])
  assert.equal(code, 0, stderr)
  const last = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Record<string, number>
  assert.equal(last['step'], 3)
  // ln 259: a uniform guess over the vocabulary, which is what random weights begin at.
  assert.ok((last['loss'] ?? 9) < Math.log(259), stdout)
  assert.ok((last['accuracy'] ?? 9) < 0.01)
  const [made, model] = [await openCheckpoint(out), await readModelConfig(out)]
  assert.equal(made.parameters, 820_992)
  assert.deepEqual(model, await readModelConfig(DEMO))
})

it('gym-node sft says what it needs', async () => {
  const { code, stderr } = await runCommand(['sft', '--model', DEMO])
  assert.equal(code, 2)
  assert.match(stderr, /--dataset/)
})
