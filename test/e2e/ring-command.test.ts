/** `gym-node ring` as `npm start` runs it, with few rounds: what it prints, writes and how it ends. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { DEMO, GYM_NODE, runCommand, temporaryFolder, TestDaemon } from './daemon-harness.ts'

/** Few prompts: these tests are about the command, not about learning. */
const SMALL = ['--steps', '1', '--set', 'train.prompts_per_step=2']

interface Summary {
  readonly rounds: number
  readonly interrupted: boolean
  readonly adapters_agree: boolean
  readonly before: { sampled: { accuracy: number; samples: number } } | null
  readonly after: { greedy: { accuracy: number } } | null
  readonly adapter_dir: string
  readonly adapter_sha3_256: string
  readonly per_node: {
    state_dir: string
    ending: string
    rounds: { round: number; adapter_sha3_256: string }[]
  }[]
}

async function readSummary(out: string): Promise<Summary> {
  return JSON.parse(await readFile(join(out, 'summary.json'), 'utf8')) as Summary
}

it('runs two daemons for two rounds, evaluates before and after, and leaves everything that it promises', async (t) => {
  const out = join(await temporaryFolder(t), 'run')
  const result = await runCommand(['ring', '--nodes', '2', '--rounds', '2', '--out', out, ...SMALL])
  assert.equal(result.code, 0, result.stdout + result.stderr)
  for (const part of [
    'before  sampled',
    'view 1 with 2 members',
    'round 2/2',
    'accuracy on held-out prompts',
    'same adapter in every round',
  ]) {
    assert.ok(result.stdout.includes(part), `no "${part}" in\n${result.stdout}`)
  }
  const summary = await readSummary(out)
  assert.equal(summary.rounds, 2)
  assert.equal(summary.adapters_agree, true)
  assert.equal(summary.interrupted, false)
  // The model's card: 35.5 % when sampled, computed exactly from its probabilities; 3000 draws have a deviation of 0.9 %.
  assert.ok(Math.abs((summary.before?.sampled.accuracy ?? 0) - 0.355) < 0.04)
  assert.ok((summary.after?.greedy.accuracy ?? 0) > 0.4)
  for (const [index, node] of summary.per_node.entries()) {
    assert.equal(node.state_dir, join(out, `node-${index}`))
    assert.equal(node.ending, 'done')
    assert.deepEqual(
      node.rounds.map(({ round }) => round),
      [1, 2],
    )
    assert.deepEqual((await readdir(join(node.state_dir, 'deltas'))).sort(), [
      'round-1.delta',
      'round-2.delta',
    ])
    assert.equal(node.rounds[1]?.adapter_sha3_256, summary.adapter_sha3_256)
  }
  assert.equal(summary.adapter_dir, join(out, 'adapter'))
  for (const file of ['adapter_model.safetensors', 'adapter_config.json'])
    assert.ok((await stat(join(out, 'adapter', file))).size > 0)
})

it('prints JSON lines for programs, alone and with the data set and reward of its user', async (t) => {
  const folder = await temporaryFolder(t)
  const dataset = join(DEMO, 'test.jsonl')
  const result = await runCommand([
    'ring',
    '--nodes',
    '1',
    '--rounds',
    '1',
    '--model',
    DEMO,
    '--dataset',
    dataset,
    '--reward',
    'exact_match',
    '--json',
    '--out',
    join(folder, 'run'),
    ...SMALL,
    '--set',
    'train.max_completion_length=6',
  ])
  assert.equal(result.code, 0, result.stdout + result.stderr)
  const lines = result.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; rounds?: number; before?: unknown })
  const types = new Set(lines.map(({ type }) => type))
  for (const type of ['begin', 'listening', 'step', 'delta', 'round', 'summary'])
    assert.ok(types.has(type), type)
  const summary = lines.at(-1)
  assert.equal(summary?.type, 'summary')
  assert.equal(summary.rounds, 1)
  assert.equal(summary.before, null, 'no held-out set was given')
})

it('stops all its daemons on SIGINT, says what was reached and exits 0', async (t) => {
  const out = join(await temporaryFolder(t), 'run')
  const child = spawn(
    process.execPath,
    [GYM_NODE, 'ring', '--nodes', '2', '--rounds', '1000', '--json', '--out', out, ...SMALL],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const ring = new TestDaemon(child)
  t.after(async () => {
    child.kill('SIGKILL')
    await ring.ended
  })
  await ring.waitFor('a committed round', (line) => 'type' in line && line.type === 'round')
  ring.kill('SIGINT')
  assert.deepEqual(await ring.ended, { code: 0, signal: null }, ring.stderr)
  const summary = await readSummary(out)
  assert.equal(summary.interrupted, true)
  assert.ok(summary.rounds >= 1)
  for (const node of summary.per_node) {
    assert.equal(node.ending, 'done')
    const pid = Number((await readFile(join(node.state_dir, 'lock.pid'), 'utf8')).trim())
    assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' }, `daemon ${pid} still runs`)
  }
})
