/**
 * Runs many seeds of the simulation over worker threads: `npm run sim -- --seeds 5000 [--from 1] [--workers 2]`.
 * `npm run sim -- --seed 17 --trace` replays one and prints every message. `--hostile`: one member lies. Exit code 1 when a
 * seed fails.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { runScenario, type RunReport, type ScenarioKind } from './scenario.ts'

type Result = { readonly seed: number } & ({ readonly report: RunReport } | { readonly failure: string })

/** Seeds a worker is given at once: small, so that all end together. */
const BATCH = 10
const PROGRESS_EVERY_MS = 20_000

if (isMainThread) await main()
else work()

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '2000' },
      from: { type: 'string', default: '1' },
      workers: { type: 'string', default: String(availableParallelism()) },
      seed: { type: 'string' },
      hostile: { type: 'boolean', default: false },
      trace: { type: 'boolean', default: false },
    },
  })
  const kind = values.hostile ? 'hostile' : 'faults'
  if (values.seed !== undefined) {
    replay(Number(values.seed), kind, values.trace)
    return
  }
  const from = Number(values.from)
  const count = Number(values.seeds)
  const failures = await runAll(kind, from, count, Number(values.workers))
  for (const { seed, failure } of failures) {
    console.log(
      `\n${failure}\n  replay: npm run sim -- --seed ${seed}${values.hostile ? ' --hostile' : ''} --trace`,
    )
  }
  process.exitCode = failures.length > 0 ? 1 : 0
}

async function runAll(
  kind: ScenarioKind,
  from: number,
  count: number,
  workers: number,
): Promise<{ seed: number; failure: string }[]> {
  const failures: { seed: number; failure: string }[] = []
  const totals = { done: 0, rounds: 0, messages: 0, epochs: 0, onTrust: 0 }
  const startedAt = performance.now()
  let next = from
  let shownAt = startedAt
  const say = (): void => {
    const seconds = (performance.now() - startedAt) / 1000
    const { done, rounds, messages, epochs, onTrust } = totals
    console.log(
      `${done} of ${count} seeds (${from} to ${next - 1}) in ${seconds.toFixed(0)} s, ${failures.length} failed: ` +
        `${rounds} rounds, ${epochs} views, ${onTrust} on trust, ${messages} messages`,
    )
  }
  const drive = async (): Promise<void> => {
    const worker = new Worker(new URL(import.meta.url), { workerData: 'sim' })
    try {
      while (next < from + count) {
        const first = next
        next = Math.min(next + BATCH, from + count)
        const results = await new Promise<readonly Result[]>((resolve, reject) => {
          worker.once('message', resolve)
          worker.once('error', reject)
          worker.postMessage({ kind, first, last: next - 1 })
        })
        for (const result of results) {
          totals.done += 1
          if ('failure' in result) failures.push(result)
          else {
            totals.rounds += result.report.rounds
            totals.messages += result.report.messages
            totals.epochs += result.report.epochs
            totals.onTrust += result.report.onTrust
          }
        }
        if (performance.now() - shownAt > PROGRESS_EVERY_MS) {
          shownAt = performance.now()
          say()
        }
        worker.removeAllListeners('error')
      }
    } finally {
      await worker.terminate()
    }
  }
  await Promise.all(Array.from({ length: workers }, drive))
  say()
  return failures
}

function work(): void {
  if (workerData !== 'sim') return
  parentPort?.on('message', ({ kind, first, last }: { kind: ScenarioKind; first: number; last: number }) => {
    const results: Result[] = []
    for (let seed = first; seed <= last; seed++) {
      try {
        results.push({ seed, report: runScenario(seed, kind) })
      } catch (thrown) {
        results.push({ seed, failure: thrown instanceof Error ? thrown.message : String(thrown) })
      }
    }
    parentPort?.postMessage(results)
  })
}

function replay(seed: number, kind: ScenarioKind, trace: boolean): void {
  const report = runScenario(seed, kind, (world) => {
    if (!trace) return
    console.log(JSON.stringify(world.options))
    world.network.onSend = (from, to, message) => {
      console.log(`${world.clock.now.toFixed(1).padStart(9)} ${from} > ${to} ${JSON.stringify(message)}`)
    }
  })
  console.log(`seed ${seed} holds: ${JSON.stringify(report)}`)
}
