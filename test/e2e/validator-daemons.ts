/**
 * Real daemons: three workers, two of whom cheat, and a validator. The cheats need no altered program: one runs with a
 * reward module of its own making under the job's name, one with another learning rate.
 * Takes a minute of two cores, so it is no part of `npm test`: npm run test:validator
 */
import assert from 'node:assert/strict'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { DEMO, runCommand, temporaryFolder, TestDaemon, type LogLine } from './daemon-harness.ts'

/** What `gym-node status --json` says of verdicts. */
interface Status {
  readonly role: string
  readonly verdicts: {
    readonly accepted: number
    readonly rejected: number
    readonly unavailable: number
    readonly last: { readonly result: string } | null
  }
  readonly last_delta: {
    readonly dtype: string
    readonly bytes: number
    readonly relative_error: number
  } | null
}

interface VerdictLine extends LogLine {
  readonly result: string
  readonly worker_id: string
  readonly failed: string[]
}

const HONEST = `export default { deterministic: true, batch: (samples) =>
  samples.map(({ completion, answer }) => (completion.trim() === answer ? 1 : 0)) }`
/** Rewards every answer that begins with an even digit: the worker's own idea of the job. */
const DISHONEST = `export default { deterministic: true, batch: (samples) =>
  samples.map(({ completion }) => (/^[02468]/.test(completion.trim()) ? 1 : 0)) }`

async function startDaemon(
  t: { after: (fn: () => Promise<void>) => void },
  folder: string,
  name: string,
  o: { reward: string; bootstrap: readonly string[]; train?: object; role?: string },
): Promise<{ daemon: TestDaemon; stateDir: string }> {
  const home = join(folder, name)
  await mkdir(home, { recursive: true })
  const module = join(home, 'reward.mjs')
  await writeFile(module, o.reward)
  const stateDir = join(home, 'state')
  const config = {
    state_dir: stateDir,
    job: 'audited',
    role: o.role ?? 'worker',
    log: { level: 'debug', format: 'json' },
    http: { port: 0 },
    ring: {
      listen: ['/ip4/127.0.0.1/tcp/0'],
      bootstrap: o.bootstrap,
      mdns: false,
      min_members: 3,
      quorum: 'majority',
    },
    train: {
      model: DEMO,
      dataset: join(DEMO, 'train.jsonl'),
      threads: 1,
      prompts_per_step: 4,
      group_size: 6,
      max_completion_length: 6,
      learning_rate: 1e-3,
      aggregate_interval: 2,
      rewards: [{ module }],
      trace_keep_rounds: 64,
      ...o.train,
    },
    validator: { sample_rate: 1, poll_interval_ms: 500 },
  }
  const file = join(home, 'config.json')
  await writeFile(file, JSON.stringify(config))
  return { daemon: TestDaemon.start(t, stateDir, ['--config', file]), stateDir }
}

/** The first verdict on this worker that a daemon logged. */
async function verdictOn(daemon: TestDaemon, worker: string, skip = 0): Promise<VerdictLine> {
  let seen = 0
  const line = await daemon.waitFor(`verdict ${skip + 1} on ${worker}`, (candidate) => {
    const { msg, worker_id: about } = candidate as VerdictLine
    return msg === 'verdict' && about === worker && seen++ >= skip
  })
  return line as VerdictLine
}

async function peerIdOf(daemon: TestDaemon): Promise<string> {
  return (await daemon.waitFor('its name', ({ msg }) => msg === 'starting')).peer_id ?? ''
}

async function statusOf(stateDir: string): Promise<Status> {
  const { stdout, stderr, code } = await runCommand(['status', '--state-dir', stateDir, '--json'])
  assert.equal(code, 0, stderr)
  return JSON.parse(stdout) as Status
}

it('a validator tells honest workers from cheats, the workers hear it, and nobody forgets it over a restart', async (t) => {
  const folder = await temporaryFolder(t)
  const started: TestDaemon[] = []
  // Before the folder goes, nobody may write to it any more; hooks run in order, so this is none.
  await using stopping = new AsyncDisposableStack()
  stopping.defer(async () => {
    for (const daemon of started) daemon.kill('SIGKILL')
    await Promise.all(started.map(({ ended }) => ended))
  })
  const start: typeof startDaemon = async (...order) => {
    const begun = await startDaemon(...order)
    started.push(begun.daemon)
    return begun
  }
  const honest = await start(t, folder, 'honest', {
    reward: HONEST,
    bootstrap: [],
    train: { delta_dtype: 'bitdelta' },
  })
  const { addresses: bootstrap } = await honest.daemon.whereabouts()
  const liar = await start(t, folder, 'liar', { reward: DISHONEST, bootstrap })
  const hasty = await start(t, folder, 'hasty', { reward: HONEST, bootstrap, train: { learning_rate: 5e-3 } })
  const validator = await start(t, folder, 'validator', { reward: HONEST, bootstrap, role: 'validator' })
  const [honestId, liarId, hastyId] = await Promise.all(
    [honest, liar, hasty].map(({ daemon }) => peerIdOf(daemon)),
  )
  assert.ok(honestId !== undefined && liarId !== undefined && hastyId !== undefined)

  // The second one on the honest worker has a residual and a previous replay to go on from.
  for (const skip of [0, 1]) {
    const verdict = await verdictOn(validator.daemon, honestId, skip)
    assert.deepEqual([verdict.result, verdict.failed], ['accepted', []])
  }
  const lied = await verdictOn(validator.daemon, liarId)
  assert.equal(lied.result, 'rejected')
  assert.deepEqual(lied.failed, ['rewards'])
  const hurried = await verdictOn(validator.daemon, hastyId)
  assert.equal(hurried.result, 'rejected')
  assert.ok(hurried.failed.includes('config'), hurried.failed.join())

  // Every worker heard of every other, the cheats about themselves too.
  for (const { daemon } of [honest, liar, hasty]) {
    assert.equal((await verdictOn(daemon, honestId)).result, 'accepted')
    assert.equal((await verdictOn(daemon, liarId)).result, 'rejected')
  }
  const before = await statusOf(honest.stateDir)
  assert.ok(before.verdicts.accepted > 0 && before.verdicts.rejected > 0)
  assert.equal(before.last_delta?.dtype, 'bitdelta')
  assert.ok(before.last_delta.relative_error > 0.1, 'one sign and a scale lose much')
  t.diagnostic(`bitdelta: ${before.last_delta.bytes} bytes, loss ${before.last_delta.relative_error}`)
  const { http } = await honest.daemon.whereabouts()
  const metrics = await (await fetch(new URL('/metrics', http))).text()
  assert.match(metrics, /gym_node_verdicts_total\{result="rejected"[^}]*\} [1-9]/)

  for (const { daemon } of [validator, honest]) assert.equal((await daemon.stop()).code, 0, daemon.stderr)
  const kept = (await readdir(join(honest.stateDir, 'verdicts'))).length
  assert.ok(kept >= 4, `${kept} verdicts are kept`)

  // Started again alone, before it can have heard anything: the verdicts are known.
  const again = await start(t, folder, 'honest', {
    reward: HONEST,
    bootstrap: [],
    train: { delta_dtype: 'bitdelta' },
  })
  await again.daemon.whereabouts()
  const { accepted, rejected, unavailable, last } = (await statusOf(again.stateDir)).verdicts
  assert.equal(accepted + rejected + unavailable, kept)
  assert.ok(last !== null)

  // The validator judges no round twice.
  const judged = (await readdir(join(validator.stateDir, 'verdicts'))).length
  const sameValidator = await start(t, folder, 'validator', { reward: HONEST, bootstrap, role: 'validator' })
  await sameValidator.daemon.whereabouts()
  assert.equal((await statusOf(sameValidator.stateDir)).role, 'validator')
  assert.equal((await statusOf(sameValidator.stateDir)).verdicts.accepted > 0, true)
  assert.ok((await readdir(join(validator.stateDir, 'verdicts'))).length >= judged)
})
