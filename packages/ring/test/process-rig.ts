/** Rings of real processes for fault tests: start, kill, stop, restart, and the promises checked over all reports. */
import { fork, type ChildProcess } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { WorkerConfig, WorkerOrder, WorkerReport } from './worker.ts'

type RoundReport = Extract<WorkerReport, { at: 'round' }>

/** Where and how the process of a node runs; by default as a child of this one, on loopback. */
export interface ProcessHost {
  readonly listen: readonly string[]
  /** a command that runs the node in front of its own command line, for example `ip netns exec NAME` */
  readonly through: readonly string[]
}

const LOOPBACK: ProcessHost = { listen: ['/ip4/127.0.0.1/tcp/0'], through: [] }

/** One ring of processes, in a folder of its own. */
export class ProcessRing {
  readonly dir = mkdtempSync(join(tmpdir(), 'gym-ring-'))
  readonly #settings: Omit<WorkerConfig, 'node' | 'dir' | 'bootstrap'>
  readonly #children = new Map<number, ChildProcess>()
  readonly #addresses = new Map<number, readonly string[]>()
  /** every round report of every node, in order of arrival */
  readonly rounds: { readonly node: number; readonly report: RoundReport }[] = []
  readonly adopted: { readonly node: number; readonly round: number }[] = []
  readonly #lastRounds = new Map<number, number>()
  readonly #resultOf = new Map<number, string>()
  readonly #seen = new Set<string>()
  #newestRound = 0
  #divergence: Error | null = null
  #waiters: (() => void)[] = []
  #failure: Error | null = null

  readonly #hostOf: (node: number) => ProcessHost

  constructor(
    settings: Omit<WorkerConfig, 'node' | 'dir' | 'bootstrap'>,
    hostOf: (node: number) => ProcessHost = () => LOOPBACK,
  ) {
    this.#settings = settings
    this.#hostOf = hostOf
  }

  /** The nodes whose processes live. */
  get running(): number[] {
    return [...this.#children.keys()].sort((a, b) => a - b)
  }

  /** Makes a node do something to itself; see `WorkerOrder`. */
  order(node: number, order: WorkerOrder): void {
    this.#children.get(node)?.send(order)
  }

  /** Starts node n; it finds the others through any that run now. Resolves when it listens. */
  async start(node: number): Promise<void> {
    const dir = join(this.dir, String(node))
    mkdirSync(dir, { recursive: true })
    const bootstrap = [...this.#addresses].filter(([n]) => n !== node).flatMap(([, list]) => list)
    const { listen, through } = this.#hostOf(node)
    const ring = { ...this.#settings.ring, listen }
    const config: WorkerConfig = { ...this.#settings, ring, node, dir, bootstrap }
    const worker = new URL('./worker.ts', import.meta.url)
    const [execPath = process.execPath, ...rest] = [...through, process.execPath]
    const execArgv = [...rest, '--conditions=gym-source']
    const child = fork(worker, [JSON.stringify(config)], { execPath, execArgv })
    this.#children.set(node, child)
    child.on('message', (message) => this.#onReport(node, message as WorkerReport))
    child.on('exit', () => {
      if (this.#children.get(node) === child) this.#children.delete(node)
      this.#notify()
    })
    await this.until(() => this.#addresses.has(node), `node ${node} listens`)
  }

  signal(node: number, signal: NodeJS.Signals): void {
    this.#children.get(node)?.kill(signal)
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(node: number): Promise<void> {
    this.#addresses.delete(node)
    this.signal(node, 'SIGKILL')
    await this.until(() => !this.#children.has(node), `node ${node} is gone`)
  }

  /** Asks for a polite leave. */
  async leave(node: number): Promise<void> {
    this.#addresses.delete(node)
    this.order(node, 'leave')
    await this.until(() => !this.#children.has(node), `node ${node} has left`)
  }

  /** The last round that node n has reported. */
  lastRound(node: number): number {
    return this.#lastRounds.get(node) ?? 0
  }

  get newestRound(): number {
    return this.#newestRound
  }

  /** Waits for a condition on the reports; fails after `ms`, or when a worker reports a failure. */
  until(condition: () => boolean, what: string, ms = 60_000): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`not within ${ms} ms: ${what}; ${this.#summary()}`)),
        ms,
      )
      const check = (): void => {
        if (this.#failure === null && !condition()) {
          this.#waiters.push(check)
          return
        }
        clearTimeout(timer)
        if (this.#failure === null) resolve()
        else reject(this.#failure)
      }
      check()
    })
  }

  /** Waits until each of the nodes has reported a round beyond the newest of now. */
  async untilRoundsGoOn(nodes: readonly number[], more = 2, ms = 60_000): Promise<void> {
    const goal = this.newestRound + more
    await this.until(
      () => nodes.every((n) => this.lastRound(n) >= goal),
      `nodes ${nodes.join()} reach ${goal}`,
      ms,
    )
  }

  /** Throws when two nodes committed different results of one round, or one node committed a round twice. */
  check(): void {
    if (this.#divergence !== null) throw this.#divergence
  }

  /** The result of a round, if any node has reported it. */
  resultOf(round: number): string | undefined {
    return this.#resultOf.get(round)
  }

  /** Kills what runs and removes the folder. */
  async close(): Promise<void> {
    for (const node of [...this.#children.keys()]) {
      this.signal(node, 'SIGCONT')
      await this.kill(node)
    }
    rmSync(this.dir, { recursive: true, force: true })
  }

  #onReport(node: number, report: WorkerReport): void {
    switch (report.at) {
      case 'listening':
        this.#addresses.set(node, report.addresses)
        break
      case 'round':
        this.rounds.push({ node, report })
        this.#count(node, report)
        break
      case 'adopted':
        this.adopted.push({ node, round: report.round })
        break
      case 'failed':
        this.#failure = new Error(`node ${node}: ${report.message}`)
        break
      case 'reducing':
        this.onReducing?.(node, report.round)
        break
    }
    this.#notify()
  }

  #count(node: number, { round, hash }: RoundReport): void {
    this.#lastRounds.set(node, round)
    this.#newestRound = Math.max(this.#newestRound, round)
    if (this.#seen.has(`${node} ${round}`))
      this.#divergence ??= new Error(`node ${node} committed round ${round} twice`)
    this.#seen.add(`${node} ${round}`)
    const first = this.#resultOf.get(round) ?? hash
    this.#resultOf.set(round, first)
    if (first !== hash)
      this.#divergence ??= new Error(`round ${round} differs: node ${node} has ${hash}, first was ${first}`)
  }

  /** Called when a node enters an all-reduce. */
  onReducing: ((node: number, round: number) => void) | null = null

  #notify(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const check of waiters) check()
  }

  #summary(): string {
    return [...this.#lastRounds.keys()].map((n) => `node ${n} at round ${this.lastRound(n)}`).join(', ')
  }
}
