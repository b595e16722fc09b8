/** Three real daemons on loopback train the demo model; one is killed in the middle of a round and comes back. */
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import {
  demoFlags,
  runCommand,
  settings,
  temporaryFolder,
  TestDaemon,
  type LogLine,
} from './daemon-harness.ts'

const RING = settings({ 'ring.min_members': 3, 'ring.quorum': 'majority' })

it('goes on without a member that is killed inside a round, takes it back, and keeps all adapters equal', async (t) => {
  const folder = await temporaryFolder(t)
  const stateDirs = [0, 1, 2].map((index) => join(folder, `node-${index}`))
  const start = (index: number, bootstrap: readonly string[]): TestDaemon =>
    TestDaemon.start(t, stateDirs[index] ?? '', [
      ...demoFlags(100 + index),
      ...RING,
      ...(bootstrap.length > 0 ? ['--bootstrap', bootstrap.join(',')] : []),
    ])

  const first = start(0, [])
  const { addresses } = await first.whereabouts()
  const second = start(1, addresses)
  const third = start(2, addresses)
  await Promise.all([first, second, third].map((daemon) => daemon.waitForRound(2)))

  // SIGKILL at the moment the third offers its delta: its neighbours are in the same round or about to be.
  const seen = third.lines.length
  const offer = await third.waitFor('an all-reduce', ({ state }) => state === 'reducing', seen)
  third.kill('SIGKILL')
  assert.equal((await third.ended).signal, 'SIGKILL')
  const killedIn = lastRound(third) + 1
  assert.equal(offer.state, 'reducing')

  // The two that are left are a majority: they commit that round and the next.
  await Promise.all([first, second].map((daemon) => daemon.waitForRound(killedIn + 1)))

  const again = start(2, addresses)
  await again.waitFor('the state of the ring', ({ msg }) => msg === 'took over the state of the ring')
  const rejoined = await again.waitForRound(killedIn + 1)
  const target = (rejoined.round ?? 0) + 1
  await Promise.all([first, second, again].map((daemon) => daemon.waitForRound(target)))

  for (const daemon of [first, second, again])
    assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.stderr)

  const reference = first.adapters()
  assert.ok(reference.size >= target)
  for (const daemon of [second, third, again]) {
    assert.ok(daemon.adapters().size > 0)
    for (const [round, hash] of daemon.adapters()) {
      // A daemon that was stopped first may miss the last round of the others; what both have must be equal.
      if (reference.has(round)) assert.equal(hash, reference.get(round), `adapters differ in round ${round}`)
    }
  }

  const files = (await Promise.all(stateDirs.map((dir) => deltasIn(dir)))).flat()
  assert.ok(files.length >= 3 * 2)
  const verified = await runCommand(['delta', 'verify', ...files])
  assert.equal(verified.code, 0, verified.stdout + verified.stderr)

  // The base model answers about a third right when sampled; noise of so few steps stays far above half of that.
  const rewards = [first, second, again].flatMap((daemon) => rewardsOf(daemon.lines).slice(-6))
  const mean = rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length
  assert.ok(mean > 0.17, `mean reward of the last steps is ${mean}`)
})

function lastRound(daemon: TestDaemon): number {
  return Math.max(0, ...daemon.adapters().keys())
}

function rewardsOf(lines: readonly LogLine[]): number[] {
  return lines
    .filter(({ msg, reward }) => msg === 'step' && reward !== undefined)
    .map(({ reward }) => reward ?? 0)
}

async function deltasIn(stateDir: string): Promise<string[]> {
  const folder = join(stateDir, 'deltas')
  return (await readdir(folder)).filter((name) => name.endsWith('.delta')).map((name) => join(folder, name))
}
