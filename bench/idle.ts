/**
 * What a daemon costs that has loaded the demo model and waits for peers: memory, and CPU over a minute.
 *   node --conditions=gym-source bench/idle.ts [--seconds 60] [--set key=value ...]
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { DEMO, settings, TestDaemon } from '../test/e2e/daemon-harness.ts'
import { processCost } from './lib/process-cost.ts'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    set: { type: 'string', multiple: true, default: [] },
  },
})
const seconds = Number(values.seconds)
const folder = await mkdtemp(join(tmpdir(), 'gym-idle-'))
const closers: (() => Promise<void>)[] = [() => rm(folder, { recursive: true, force: true })]
try {
  const daemon = TestDaemon.start({ after: (close) => void closers.push(close) }, join(folder, 'state'), [
    ...settings({
      'train.model': DEMO,
      'train.dataset': join(DEMO, 'train.jsonl'),
      'http.port': 0,
      'ring.listen': '/ip4/0.0.0.0/tcp/0',
      'ring.min_members': 2,
      'log.level': 'debug',
      'log.format': 'json',
    }),
    ...values.set.flatMap((pair) => ['--set', pair]),
  ])
  await daemon.waitFor('the wait', ({ state }) => state === 'waiting_for_peers')
  await sleep(5_000) // what starting left to do
  const before = processCost(daemon.pid)
  const startedAt = performance.now()
  await sleep(seconds * 1_000)
  const after = processCost(daemon.pid)
  const elapsed = (performance.now() - startedAt) / 1_000
  process.stdout.write(
    `${JSON.stringify({
      seconds: Math.round(elapsed),
      processes: after.processes,
      cpu_percent_of_one_core: round((100 * (after.cpuSeconds - before.cpuSeconds)) / elapsed, 2),
      pss_mib: round(after.pssBytes / 2 ** 20, 0),
      rss_mib: round(after.rssBytes / 2 ** 20, 0),
      pss_growth_mib: round((after.pssBytes - before.pssBytes) / 2 ** 20, 1),
    })}\n`,
  )
  await daemon.stop()
} finally {
  for (const close of closers.reverse()) await close()
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}
