/** `gym-node sft`: a model from random weights, as its user makes one. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { it } from 'node:test'
import { runSft } from '../../gspo/src/sft/run-sft.ts'
import { readModelConfig } from '../../gspo/src/models/config.ts'
import { openCheckpoint } from '../../gspo/src/weights/checkpoint.ts'
import { DEMO, GYM_NODE, runCommand, temporaryFolder } from '../../../test/e2e/daemon-harness.ts'

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

it('gym-node sft --checkpoint, killed and started again, makes the bits of a run that was not killed', async (t) => {
  const folder = await temporaryFolder(t)
  const data = join(folder, 'rows.jsonl')
  await writeFile(
    data,
    (await readFile(join(DEMO, 'test.jsonl'), 'utf8')).split('\n').slice(0, 40).join('\n'),
  )
  const args = [
    ...['sft', '--model', DEMO, '--dataset', data, '--eval-dataset', data, '--threads', '1', '--json'],
    ...['--max-steps', '8', '--eval-steps', '2', '--batch-size', '8'],
    ...['--out', join(folder, 'model'), '--checkpoint', join(folder, 'state')],
  ]
  const child = spawn(process.execPath, [GYM_NODE, ...args], { stdio: ['ignore', 'pipe', 'ignore'] })
  const ended = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })
  await once(lines, 'line')
  child.kill('SIGKILL')
  assert.deepEqual(await ended, [null, 'SIGKILL'])

  const { code, stdout, stderr } = await runCommand(args)
  assert.equal(code, 0, stderr)
  const steps = stdout.match(/"step":\d+/g) ?? []
  assert.notEqual(steps[0], '"step":2', 'it began again')
  assert.equal(steps.at(-1), '"step":8')
  const whole = { model: DEMO, dataset: data, output_dir: join(folder, 'whole') }
  await runSft({ ...whole, threads: 1, max_steps: 8, eval_steps: 8, batch_size: 8 })
  const [killed, other] = ['model', 'whole'].map((name) => readFile(join(folder, name, 'model.safetensors')))
  assert.deepEqual(await killed, await other)
})

it('gym-node sft says what it needs', async () => {
  const { code, stderr } = await runCommand(['sft', '--model', DEMO])
  assert.equal(code, 2)
  assert.match(stderr, /--dataset/)
})
