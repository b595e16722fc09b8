/** One real daemon alone: what it does over its life, and what it survives. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { it } from 'node:test'
import { multiaddr } from '@multiformats/multiaddr'
import {
  demoFlags,
  isCommit,
  runCommand,
  settings,
  temporaryFolder,
  TestDaemon,
} from '../../../test/e2e/daemon-harness.ts'

const ALONE = settings({ 'ring.min_members': 1 })

it('trains alone, answers status, refuses a second daemon, stops on SIGTERM and goes on from there', async (t) => {
  const stateDir = join(await temporaryFolder(t), 'state')
  const daemon = TestDaemon.start(t, stateDir, [...demoFlags(1), ...ALONE])
  await daemon.waitForRound(2)

  const status = await runCommand(['status', '--state-dir', stateDir])
  assert.equal(status.code, 0, status.stderr)
  for (const part of [
    'worker of job default',
    'Qwen3ForCausalLM, 820,992 parameters',
    'last step  reward',
    'address    /ip4/127.0.0.1/tcp/',
  ]) {
    assert.ok(status.stdout.includes(part), `no "${part}" in\n${status.stdout}`)
  }
  const document = JSON.parse((await runCommand(['status', '--state-dir', stateDir, '--json'])).stdout) as {
    pid: number
    round: number
  }
  assert.equal(document.pid, daemon.pid)
  assert.ok(document.round >= 2)

  const second = await runCommand([
    'start',
    '--state-dir',
    stateDir,
    ...demoFlags(1),
    ...settings({ 'log.level': 'silent' }),
  ])
  assert.equal(second.code, 5)
  assert.match(second.stderr, new RegExp(`^error STATE_LOCKED: .* pid ${daemon.pid} `))

  assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.stderr)
  const last = Math.max(...daemon.adapters().keys())
  assert.equal((await runCommand(['status', '--state-dir', stateDir])).code, 4)
  for (const secret of ['ed25519.seed', 'ml-dsa-87.seed']) {
    assert.equal((await stat(join(stateDir, 'identity', secret))).mode & 0o777, 0o600)
  }

  const again = TestDaemon.start(t, stateDir, [...demoFlags(1), ...ALONE, '--rounds', String(last + 1)])
  assert.deepEqual(await again.ended, { code: 0, signal: null }, again.stderr)
  assert.deepEqual([...again.adapters().keys()], [last + 1])
  const peers = [daemon, again].map(({ lines }) => lines.find(({ msg }) => msg === 'starting')?.peer_id)
  assert.equal(peers[0], peers[1])
  const deltas = Array.from({ length: last + 1 }, (_, i) => join(stateDir, 'deltas', `round-${i + 1}.delta`))
  const verified = await runCommand(['delta', 'verify', '--json', ...deltas])
  assert.equal(verified.code, 0, verified.stdout)
  const sequences = verified.stdout
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { metadata: { sequence: number } }).metadata.sequence)
  assert.equal(new Set(sequences).size, sequences.length, 'a sequence number was used twice')

  const inspected = await runCommand(['delta', 'inspect', deltas[0] ?? ''])
  assert.match(inspected.stdout, /signed by ed25519 and ml-dsa-87/)
  assert.match(
    inspected.stdout,
    /base_model\.model\.model\.layers\.0\.self_attn\.q_proj\.lora_A\.weight +f32/,
  )

  const damaged = join(stateDir, 'damaged.delta')
  const bytes = await readFile(deltas[0] ?? '')
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1
  await writeFile(damaged, bytes)
  assert.equal((await runCommand(['delta', 'verify', damaged])).code, 3)
})

it('keeps training while strangers send garbage to its ring port and its status port', async (t) => {
  const stateDir = join(await temporaryFolder(t), 'state')
  const daemon = TestDaemon.start(t, stateDir, [...demoFlags(2), ...ALONE])
  const { addresses, http } = await daemon.whereabouts()
  const ringPort = Number(
    multiaddr(addresses[0] ?? '')
      .getComponents()
      .find(({ name }) => name === 'tcp')?.value,
  )
  await daemon.waitForRound(1)
  for (const port of [ringPort, Number(new URL(http).port)]) {
    await sendGarbage(port, randomBytes(65_536))
    await sendGarbage(port, Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n'.repeat(50)))
    await sendGarbage(port, Buffer.alloc(0))
  }
  const after = daemon.lines.length
  await daemon.waitForRound(2, after)
  assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.stderr)
})

it('starts its engine again when that is killed, and loses no round', async (t) => {
  const stateDir = join(await temporaryFolder(t), 'state')
  const daemon = TestDaemon.start(t, stateDir, [...demoFlags(3), ...ALONE])
  const before = await daemon.waitForRound(1)
  const children = execFileSync('ps', ['-o', 'pid=', '--ppid', String(daemon.pid)], { encoding: 'utf8' })
    .trim()
    .split(/\s+/)
    .map(Number)
  assert.equal(children.length, 1, 'the engine is the only child')
  process.kill(children[0] ?? 0, 'SIGKILL')
  await daemon.waitFor('the new engine', ({ code }) => code === 'ENGINE_DIED')
  const mark = daemon.lines.length
  const next = await daemon.waitFor('a commit', isCommit, mark)
  assert.ok((next.round ?? 0) > (before.round ?? 0))
  assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.stderr)
  const rounds = [...daemon.adapters().keys()]
  assert.deepEqual(
    rounds,
    Array.from({ length: rounds.length }, (_, i) => i + 1),
  )
})

it('refuses to go on from a checkpoint of another adapter, and leaves it as it is', async (t) => {
  const stateDir = join(await temporaryFolder(t), 'state')
  const first = TestDaemon.start(t, stateDir, [...demoFlags(4), ...ALONE, '--rounds', '1'])
  assert.equal((await first.ended).code, 0, first.stderr)
  const checkpoint = await readFile(join(stateDir, 'checkpoint'))
  const other = await runCommand([
    'start',
    '--state-dir',
    stateDir,
    ...demoFlags(4),
    ...ALONE,
    ...settings({ 'train.lora_rank': 4, 'log.level': 'silent' }),
  ])
  assert.equal(other.code, 6, other.stderr)
  assert.match(other.stderr, /^error \w+: .*\)\n$/)
  assert.deepEqual(await readFile(join(stateDir, 'checkpoint')), checkpoint)
})

async function sendGarbage(port: number, bytes: Buffer): Promise<void> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined) // being cut off is what a stranger deserves
  await new Promise((resolve) => socket.once('connect', resolve))
  socket.end(bytes)
  socket.resume()
  await new Promise((resolve) => socket.once('close', resolve))
}
