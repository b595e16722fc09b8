/**
 * A ring of real daemons on the demo model that is killed with SIGKILL again and again by a seeded plan. After each
 * crash the victims' folders are audited as they lie, then the daemons start again on them.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createServer } from 'node:net'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { demoFlags, isCommit, settings, TestDaemon, type LogLine } from '../e2e/daemon-harness.ts'
import { crashPlan, type Crash, type Moment } from './crash-plan.ts'
import { StateAudit } from './state-audit.ts'

/** What to run. */
export interface CrashOptions {
  readonly folder: string
  readonly seed: number
  readonly nodes: number
  /** Both must be reached: processes killed, and rounds committed. */
  readonly kills: number
  readonly rounds: number
  readonly onProgress?: (text: string) => void
}

/** What was reached without a finding. */
export interface CrashReport {
  readonly crashes: number
  readonly kills: number
  readonly engineKills: number
  readonly rounds: number
  readonly signedDeltas: number
  readonly folderChecks: number
  /** Adapter hash by committed round. */
  readonly adapters: ReadonlyMap<number, string>
}

/** The victim's moment is awaited this long, ms; one that waits for the others may not come to it. */
const MOMENT_MS = 10_000

/** The survivors get this long for a commit before the victims come back, ms. */
const ALONE_MS = 4_000

/** A round as small as it can be: the soak is about crashes, and each costs a start anyway. */
export const SMALL_ROUNDS: readonly string[] = settings({
  'train.prompts_per_step': 1,
  'train.group_size': 2,
  'train.aggregate_interval': 1,
  'train.lora_rank': 2,
  'ring.quorum': 'majority',
  // More than the soak has rounds: every contribution stays checkable.
  'train.trace_keep_rounds': 2_000,
})

/** Runs until the numbers asked for are reached. Throws at the first finding. */
export async function runCrashes(options: CrashOptions): Promise<CrashReport> {
  const closers: (() => Promise<void>)[] = []
  const scope = { after: (fn: () => Promise<void>) => void closers.push(fn) }
  try {
    return await crashRing(options, scope)
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

async function crashRing(
  options: CrashOptions,
  scope: Parameters<typeof TestDaemon.start>[0],
): Promise<CrashReport> {
  const { folder, seed, nodes } = options
  const roots = Array.from({ length: nodes }, (_, index) => join(folder, `node-${index}`))
  const audit = new StateAudit(roots)
  const ports = await freePorts(nodes)
  const bootstrap = ports.map((port) => `/ip4/127.0.0.1/tcp/${port}`)
  const start = (index: number): TestDaemon =>
    TestDaemon.start(scope, roots[index] ?? '', [
      ...demoFlags(seed + index),
      ...SMALL_ROUNDS,
      ...settings({ 'ring.listen': bootstrap[index] ?? '', 'ring.min_members': Math.min(2, nodes) }),
      ...(nodes > 1 ? ['--bootstrap', bootstrap.filter((_, other) => other !== index).join(',')] : []),
    ])
  const daemons = roots.map((_, index) => start(index))
  const done = { crashes: 0, kills: 0, engineKills: 0 }
  for (const crash of crashPlan(seed, nodes)) {
    if (done.kills >= options.kills && audit.rounds >= options.rounds) break
    const firstIndex = crash.victims[0] ?? 0
    if (
      isOfStart(crash.moment) &&
      daemonAt(daemons, firstIndex).lines.some((line) => momentOf(line) === crash.moment)
    ) {
      // To be hit while it starts it has to start again first.
      await kill(audit, daemons, [firstIndex])
      done.kills++
      daemons[firstIndex] = start(firstIndex)
    }
    const first = daemonAt(daemons, firstIndex)
    await untilMoment(first, crash)
    options.onProgress?.(`crash ${done.crashes + 1}: ${describe(crash)}, ${audit.rounds} rounds so far`)
    done.crashes++
    if (crash.target === 'engine') {
      if (killEngine(first.pid)) done.engineKills++
      continue
    }
    await kill(audit, daemons, crash.victims)
    done.kills += crash.victims.length
    const survivor = daemons.findIndex((_, index) => !crash.victims.includes(index))
    if (!crash.isBackAtOnce && survivor >= 0) await untilLine(daemonAt(daemons, survivor), isCommit, ALONE_MS)
    for (const index of crash.victims) daemons[index] = start(index)
  }
  await finish(audit, daemons)
  return {
    ...done,
    rounds: audit.rounds,
    signedDeltas: audit.deltas,
    folderChecks: audit.checks,
    adapters: audit.adapters,
  }
}

/** SIGKILL to all victims at once, then a look into each folder. */
async function kill(
  audit: StateAudit,
  daemons: readonly TestDaemon[],
  victims: readonly number[],
): Promise<void> {
  for (const index of victims) daemonAt(daemons, index).kill('SIGKILL')
  for (const index of victims) {
    const daemon = daemonAt(daemons, index)
    const ending = await daemon.ended
    assert.equal(ending.signal, 'SIGKILL', `node ${index} had ended with ${ending.code}: ${daemon.stderr}`)
    await auditStopped(audit, daemons, index)
  }
}

/** All together commit a round further than any, stop politely, and every folder is looked at once more. */
async function finish(audit: StateAudit, daemons: readonly TestDaemon[]): Promise<void> {
  const heights = await Promise.all(
    daemons.map(async (daemon) => (await daemon.waitForRound(1, lastCommitAt(daemon))).round ?? 0),
  )
  const target = Math.max(...heights) + 1
  await Promise.all(daemons.map((daemon) => daemon.waitForRound(target)))
  for (const [index, daemon] of daemons.entries()) {
    assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, `node ${index}: ${daemon.stderr}`)
    await auditStopped(audit, daemons, index)
  }
  audit.checkCounted()
}

async function auditStopped(audit: StateAudit, daemons: readonly TestDaemon[], index: number): Promise<void> {
  for (const [other, daemon] of daemons.entries())
    for (const [round, hash] of daemon.adapters()) audit.committed(other, round, hash)
  const written = daemonAt(daemons, index)
    .lines.filter(({ msg }) => msg === 'delta written')
    .map(({ file }) => basename(file ?? ''))
  await audit.check(index, written)
}

/** Waits for the victim's moment and the delay after it. */
async function untilMoment(daemon: TestDaemon, { moment, delayMs }: Crash): Promise<void> {
  await untilLine(daemon, (line) => momentOf(line) === moment, MOMENT_MS)
  await sleep(delayMs)
}

/** Waits for a line that is still to come, or the deadline; a daemon that ends by itself is a finding. */
async function untilLine(daemon: TestDaemon, matches: (line: LogLine) => boolean, ms: number): Promise<void> {
  const deadline = new AbortController()
  const from = daemon.lines.length
  const timer = sleep(ms, undefined, { signal: deadline.signal }).catch(() => undefined) // cut short when it came
  await Promise.race([daemon.waitFor('a moment', matches, from), timer])
  deadline.abort()
}

function momentOf(line: LogLine): Moment | null {
  if (line.msg === 'starting' || line.msg === 'listening') return line.msg
  if (line.msg === 'delta written') return 'written'
  if (line.state === 'training' || line.state === 'reducing') return line.state
  return isCommit(line) ? 'committed' : null
}

function isOfStart(moment: Moment): boolean {
  return moment === 'starting' || moment === 'listening'
}

/** Kills the engine process of a daemon; false when it has none at this moment. */
function killEngine(pid: number): boolean {
  try {
    const children = execFileSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' })
    const engine = Number(children.trim().split(/\s+/)[0])
    if (!Number.isInteger(engine) || engine <= 1) return false
    process.kill(engine, 'SIGKILL')
    return true
  } catch {
    return false // `ps` finds none while the daemon is still starting
  }
}

/** Ports that are free now. Daemons keep theirs over restarts, so that the others find them again. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1')
      await new Promise((resolve) => server.once('listening', resolve))
      return server
    }),
  )
  const ports = servers.map((server) => {
    const address = server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  })
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

/** Index after the daemon's newest commit, so that waiting from there waits for a new one. */
function lastCommitAt(daemon: TestDaemon): number {
  return daemon.lines.findLastIndex(isCommit) + 1
}

function daemonAt(daemons: readonly TestDaemon[], index: number): TestDaemon {
  const daemon = daemons[index]
  assert.ok(daemon !== undefined)
  return daemon
}

function describe({ victims, target, moment, delayMs }: Crash): string {
  return `${target} of node ${victims.join(' and ')} ${delayMs} ms after ${moment}`
}
