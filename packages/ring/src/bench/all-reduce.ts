/** Measures the ring's all-reduce as its users get it: N processes on loopback, agreement and commit included. */
import { fork, type ChildProcess } from 'node:child_process'
import { RingError } from '../errors.ts'
import type { CarrierChoice, Integrity, WireType } from '../types.ts'

/** What is measured. */
export interface BenchOptions {
  readonly nodes: number
  /** size of the float32 vector, in MiB */
  readonly megabytes: number
  readonly wire: WireType
  readonly carrier: CarrierChoice
  readonly integrity: Integrity
  /** measured runs, after two that warm up */
  readonly runs: number
  /** direct sockets of a link; default 1 */
  readonly sockets?: number
  /** where the nodes run, one after another; default: all on loopback */
  readonly hosts?: readonly BenchHost[]
  readonly signal?: AbortSignal
}

/** A host of its own, for example in a network namespace: what to listen on, and the command that runs there. */
export interface BenchHost {
  readonly listen: readonly string[]
  readonly through: readonly string[]
}

/** Milliseconds are of the slowest node in each run; names as the command line prints them. */
export interface BenchReport {
  readonly nodes: number
  readonly megabytes: number
  readonly wire: WireType
  readonly carrier: CarrierChoice
  readonly integrity: Integrity
  readonly runs: number
  readonly median_ms: number
  readonly min_ms: number
  readonly max_ms: number
  /** CPU seconds of all processes for each GB of float32 that passes a link: 2 (N-1) times the vector in a run */
  readonly cpu_s_per_gb_hop: number
  /** the largest of the processes */
  readonly peak_rss_mb: number
  readonly same_hash: boolean
}

/** What a bench worker is told, and what it says. */
export interface BenchWorkerConfig extends Omit<BenchOptions, 'signal' | 'hosts'> {
  readonly bootstrap: readonly string[]
  readonly listen?: readonly string[]
}
export type BenchWorkerReport =
  | { readonly at: 'listening'; readonly addresses: readonly string[] }
  | { readonly at: 'ready' }
  | {
      readonly at: 'done'
      readonly ms: number
      readonly cpuMs: number
      readonly rssMb: number
      readonly hash: string
    }
  | { readonly at: 'failed'; readonly message: string }

const WARM_UP_RUNS = 2

/** Starts the processes, runs, stops them. Throws RingError when one fails, or the signal's reason. */
export async function benchAllReduce(options: BenchOptions): Promise<BenchReport> {
  const workers: Worker[] = []
  try {
    const first = new Worker({ ...options, bootstrap: [] }, options.hosts?.[0])
    workers.push(first)
    const listening = await first.next('listening', options.signal)
    for (let i = 1; i < options.nodes; i++)
      workers.push(new Worker({ ...options, bootstrap: listening.addresses }, options.hosts?.[i]))
    await Promise.all(workers.slice(1).map((worker) => worker.next('listening', options.signal)))
    await Promise.all(workers.map((worker) => worker.next('ready', options.signal)))
    const runs: { ms: number; cpuMs: number }[] = []
    let rss = 0
    let isSame = true
    for (let run = 0; run < options.runs + WARM_UP_RUNS; run++) {
      for (const worker of workers) worker.go()
      const reports = await Promise.all(workers.map((worker) => worker.next('done', options.signal)))
      const cpuMs = reports.reduce((sum, report) => sum + report.cpuMs, 0)
      if (run >= WARM_UP_RUNS) runs.push({ ms: Math.max(...reports.map((report) => report.ms)), cpuMs })
      rss = Math.max(rss, ...reports.map((report) => report.rssMb))
      isSame = isSame && new Set(reports.map((report) => report.hash)).size === 1
      await Promise.all(workers.map((worker) => worker.next('ready', options.signal)))
    }
    return summarise(options, runs, rss, isSame)
  } finally {
    for (const worker of workers) worker.kill()
  }
}

function summarise(
  options: BenchOptions,
  runs: readonly { ms: number; cpuMs: number }[],
  rss: number,
  isSame: boolean,
): BenchReport {
  const { nodes, megabytes, wire, carrier, integrity } = options
  const times = runs.map((run) => run.ms).sort((a, b) => a - b)
  const cpu = runs.map((run) => run.cpuMs).sort((a, b) => a - b)
  const gigabyteHops = (2 * (nodes - 1) * megabytes * 1024 * 1024) / 1e9
  const middle = (list: readonly number[]): number => list[Math.floor(list.length / 2)] ?? 0
  return {
    nodes,
    megabytes,
    wire,
    carrier,
    integrity,
    runs: options.runs,
    median_ms: round(middle(times), 2),
    min_ms: round(times[0] ?? 0, 2),
    max_ms: round(times.at(-1) ?? 0, 2),
    cpu_s_per_gb_hop: nodes === 1 ? 0 : round(middle(cpu) / 1000 / gigabyteHops, 3),
    peak_rss_mb: Math.round(rss),
    same_hash: isSame,
  }
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}

/** One child process; its reports are queued by kind. */
class Worker {
  readonly #child: ChildProcess
  readonly #reports: BenchWorkerReport[] = []
  #wake: (() => void) | null = null
  #failure: RingError | null = null

  constructor(config: BenchWorkerConfig, host?: BenchHost) {
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const [execPath = process.execPath, ...rest] = [...(host?.through ?? []), process.execPath]
    const told = host === undefined ? config : { ...config, listen: host.listen }
    this.#child = fork(new URL(`./worker.${extension}`, import.meta.url), [JSON.stringify(told)], {
      execPath,
      execArgv: [...rest, ...process.execArgv],
    })
    this.#child.on('message', (message) => {
      this.#reports.push(message as BenchWorkerReport)
      this.#wake?.()
    })
    this.#child.on('exit', (code) => {
      this.#failure = new RingError('PEER_LOST', `a bench process ended with code ${code}`)
      this.#wake?.()
    })
  }

  go(): void {
    this.#child.send('go')
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  async next<K extends BenchWorkerReport['at']>(
    at: K,
    signal: AbortSignal | undefined,
  ): Promise<Extract<BenchWorkerReport, { at: K }>> {
    for (;;) {
      signal?.throwIfAborted()
      const report = this.#reports.shift()
      if (report?.at === at) return report as Extract<BenchWorkerReport, { at: K }>
      if (report?.at === 'failed')
        throw new RingError('PEER_LOST', `a bench process failed: ${report.message}`)
      if (this.#failure !== null) throw this.#failure
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        signal?.addEventListener('abort', () => resolve(), { once: true })
      })
    }
  }
}
