/** Measures the ring's all-reduce as its users get it: N processes on loopback, agreement and commit included. */
import { fork, type ChildProcess } from 'node:child_process'
import { RingError } from '../errors.ts'
import type { CarrierChoice, Integrity, WireType } from '../types.ts'

/** What is measured. */
export interface BenchCase {
  readonly nodes: number
  /** size of the float32 vector, in MiB */
  readonly megabytes: number
  readonly wire: WireType
  readonly carrier: CarrierChoice
  readonly integrity: Integrity
  /** measured runs, after 24 that warm up */
  readonly runs: number
}

/** What is measured, and where. */
export interface BenchOptions extends BenchCase {
  /** direct sockets a link; default 1 */
  readonly sockets?: number | undefined
  /** runs that warm up, where 24 are not wanted */
  readonly warmUps?: number
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
export interface BenchReport extends BenchCase {
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

/** One run: time of the slowest node, CPU time of all. */
export interface BenchRun {
  readonly ms: number
  readonly cpuMs: number
}

/** A daemon runs the same round for days: the first ones, which V8 still compiles, cost up to half as much again. */
const WARM_UP_RUNS = 24

/** Starts the processes, runs, stops them. Throws RingError when one fails, or the signal's reason. */
export async function benchAllReduce(options: BenchOptions): Promise<BenchReport> {
  const bench = await AllReduceBench.start(options)
  try {
    for (let run = 0; run < options.runs; run++) await bench.run()
    return bench.report()
  } finally {
    bench.stop()
  }
}

/** The processes of one measurement, warmed up; runs may be interleaved with those of another. */
export class AllReduceBench {
  readonly #options: BenchOptions
  readonly #workers: Worker[] = []
  readonly #runs: BenchRun[] = []
  #rss = 0
  #isSame = true

  private constructor(options: BenchOptions) {
    this.#options = options
  }

  /** Throws RingError when a process fails, or the signal's reason. */
  static async start(options: BenchOptions): Promise<AllReduceBench> {
    const bench = new AllReduceBench(options)
    try {
      await bench.#start()
      return bench
    } catch (thrown) {
      bench.stop()
      throw thrown
    }
  }

  async #start(): Promise<void> {
    const { nodes, signal } = this.#options
    const first = this.#fork([])
    const { addresses } = await first.next('listening', signal)
    const rest = Array.from({ length: nodes - 1 }, () => this.#fork(addresses))
    await Promise.all(rest.map((worker) => worker.next('listening', signal)))
    await this.#all('ready')
    const warmUps = this.#options.warmUps ?? WARM_UP_RUNS
    for (let run = 0; run < warmUps; run++) await this.run()
    this.#runs.length = 0
  }

  /** One round on all processes at once. */
  async run(): Promise<BenchRun> {
    for (const worker of this.#workers) worker.go()
    const reports = await this.#all('done')
    await this.#all('ready')
    const ms = Math.max(...reports.map((report) => report.ms))
    const run = { ms, cpuMs: reports.reduce((sum, report) => sum + report.cpuMs, 0) }
    this.#runs.push(run)
    this.#rss = Math.max(this.#rss, ...reports.map((report) => report.rssMb))
    this.#isSame &&= new Set(reports.map((report) => report.hash)).size === 1
    return run
  }

  /** Of all runs so far, without those that warmed up. */
  report(): BenchReport {
    return summarise(this.#options, this.#runs, this.#rss, this.#isSame)
  }

  stop(): void {
    for (const worker of this.#workers) worker.kill()
  }

  #fork(bootstrap: readonly string[]): Worker {
    const { nodes, megabytes, wire, carrier, integrity, runs, sockets, hosts } = this.#options
    const config = { nodes, megabytes, wire, carrier, integrity, runs, sockets, bootstrap }
    const worker = new Worker(config, hosts?.[this.#workers.length])
    this.#workers.push(worker)
    return worker
  }

  #all<K extends BenchWorkerReport['at']>(at: K): Promise<Extract<BenchWorkerReport, { at: K }>[]> {
    return Promise.all(this.#workers.map((worker) => worker.next(at, this.#options.signal)))
  }
}

function summarise(
  options: BenchOptions,
  runs: readonly BenchRun[],
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
    runs: runs.length,
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
