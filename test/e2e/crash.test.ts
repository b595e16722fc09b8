/** What a daemon loses when it is killed or its clock is set: nothing. The long version is `npm run soak:crash`. */
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { crashPlan } from '../soak/crash-plan.ts'
import { runCrashes, SMALL_ROUNDS } from '../soak/crash-run.ts'
import { demoFlags, isCommit, runCommand, settings, temporaryFolder, TestDaemon } from './daemon-harness.ts'

it('keeps every commit, signed delta and record of a node through SIGKILLs at seeded moments, and has the weights of one never killed', async (t) => {
  const folder = await temporaryFolder(t)
  const report = await runCrashes({
    folder,
    seed: 3,
    nodes: 1,
    kills: 3,
    rounds: 3,
  })
  assert.ok(report.kills >= 3 && report.rounds >= 3, JSON.stringify(report))
  assert.ok(report.signedDeltas >= report.rounds)

  const steady = TestDaemon.start(t, join(folder, 'steady'), [
    ...demoFlags(3),
    ...SMALL_ROUNDS,
    ...settings({ 'ring.min_members': 1 }),
  ])
  await steady.waitForRound(Math.max(...report.adapters.keys()))
  assert.deepEqual(await steady.stop(), { code: 0, signal: null }, steady.stderr)
  const adapters = steady.adapters()
  for (const [round, hash] of report.adapters) assert.equal(adapters.get(round), hash, `round ${round}`)
})

it('goes on while the clock of one of two members jumps a year forward and two back', async (t) => {
  const folder = await temporaryFolder(t)
  const flags = [
    ...demoFlags(21),
    ...settings({ 'ring.min_members': 2, 'ring.quorum': 'any', 'train.aggregate_interval': 1 }),
  ]
  const clock = fileURLToPath(new URL('./jumping-clock.ts', import.meta.url))
  const jumping = TestDaemon.start(t, join(folder, 'jumping'), flags, { NODE_OPTIONS: `--import ${clock}` })
  const { addresses } = await jumping.whereabouts()
  const steady = TestDaemon.start(t, join(folder, 'steady'), [...flags, '--bootstrap', addresses.join(',')])
  let round = (await jumping.waitForRound(1)).round ?? 0
  for (const year of [1, -1]) {
    const mark = jumping.lines.length
    jumping.kill('SIGUSR2')
    for (const daemon of [jumping, steady]) await daemon.waitForRound(round + 2)
    const commit = await jumping.waitFor('a commit after the jump', isCommit, mark)
    const years = (Date.parse(commit.time) - Date.now()) / 31_557_600_000
    // The commit that was under way when the clock was set may still carry the old time.
    if ((commit.round ?? 0) > round + 1) assert.equal(Math.round(years), year)
    round = Math.max(...jumping.adapters().keys())
  }
  for (const daemon of [jumping, steady]) {
    assert.deepEqual(
      daemon.lines.filter(({ code }) => code === 'PEER_LOST' || code === 'TIMEOUT'),
      [],
      'nobody takes a jump for silence',
    )
    assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.stderr)
  }
  const both = [...jumping.adapters()].filter(([at]) => steady.adapters().has(at))
  for (const [at, hash] of both) assert.equal(steady.adapters().get(at), hash, `round ${at}`)
  const deltas = join(folder, 'jumping', 'deltas')
  const verified = await runCommand([
    'delta',
    'verify',
    ...(await readdir(deltas)).map((name) => join(deltas, name)),
  ])
  assert.equal(verified.code, 0, verified.stdout)
})

it('has a plan that its seed repeats', () => {
  const crashes = (seed: number): unknown[] => {
    const plan = crashPlan(seed, 3)
    return Array.from({ length: 50 }, () => plan.next().value)
  }
  assert.deepEqual(crashes(5), crashes(5))
  assert.notDeepEqual(crashes(5), crashes(6))
})
