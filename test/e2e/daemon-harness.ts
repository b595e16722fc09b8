/**
 * Runs real `gym-node` processes for tests: starts daemons, follows their JSON logs, waits for what they say.
 * Nothing here sleeps; every wait ends with the awaited line, the end of the process, or a deadline.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export const GYM_NODE = fileURLToPath(new URL('../../packages/node/bin/gym-node.js', import.meta.url))
export const DEMO = fileURLToPath(new URL('../../packages/node/demo/arith-model/', import.meta.url))

/** Deadline of one wait, ms: generous, since many test files share two cores; nothing depends on its length. */
const WAIT_MS = 180_000

/** One line of a daemon's log. */
export interface LogLine {
  readonly level: number
  /** RFC 3339, by the daemon's clock. */
  readonly time: string
  readonly msg: string
  readonly code?: string
  readonly round?: number
  readonly state?: string
  readonly step?: number
  readonly reward?: number
  readonly members?: number | string[]
  readonly addresses?: string[]
  readonly http?: string | null
  readonly peer_id?: string
  readonly adapter_sha3_256?: string
  readonly file?: string
  readonly applied?: string[]
  readonly need_restart?: string[]
}

/** How a process ended. */
export interface Ending {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A temporary folder that is removed after the test. */
export async function temporaryFolder(t: { after: (fn: () => Promise<void>) => void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'gym-test-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Flags of a small, quick training on the demo model; one thread, few completions. */
export function demoFlags(seed: number): string[] {
  return settings({
    'train.model': DEMO,
    'train.dataset': join(DEMO, 'train.jsonl'),
    'train.threads': 1,
    'train.prompts_per_step': 4,
    'train.group_size': 8,
    'train.max_completion_length': 6,
    'train.learning_rate': 1e-3,
    'train.aggregate_interval': 2,
    'train.seed': seed,
    'http.port': 0,
    'ring.mdns': false,
    'ring.listen': '/ip4/127.0.0.1/tcp/0',
    'log.level': 'debug',
    'log.format': 'json',
  })
}

/** `--set` flags for configuration keys. */
export function settings(values: Readonly<Record<string, string | number | boolean>>): string[] {
  return Object.entries(values).flatMap(([key, value]) => ['--set', `${key}=${value}`])
}

/** Runs a command to its end. */
export async function runCommand(
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string>; stdin?: string } = {},
): Promise<Ending & { stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [GYM_NODE, ...args], {
    cwd: options.cwd ?? tmpdir(),
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [stdout, stderr, ending] = await Promise.all([
    readAll(child.stdout),
    readAll(child.stderr),
    endingOf(child),
  ])
  return { ...ending, stdout, stderr }
}

/** A daemon in a process of its own. */
export class TestDaemon {
  readonly #child: ChildProcess
  readonly #watchers = new Set<() => void>()
  readonly lines: LogLine[] = []
  readonly ended: Promise<Ending>
  stderr = ''

  constructor(child: ChildProcess) {
    this.#child = child
    this.ended = endingOf(child)
    void this.ended.then(() => this.#wake()) // endingOf never rejects
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on('line', (text) => {
        if (text.startsWith('{')) this.lines.push(JSON.parse(text) as LogLine)
        this.#wake()
      })
    }
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
  }

  /** Starts `gym-node start` on a state folder; killed after the test when it still runs. */
  static start(
    t: { after: (fn: () => Promise<void>) => void },
    stateDir: string,
    flags: readonly string[],
    env: Record<string, string> = {},
  ): TestDaemon {
    const child = spawn(process.execPath, [GYM_NODE, 'start', '--state-dir', stateDir, ...flags], {
      cwd: tmpdir(),
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const daemon = new TestDaemon(child)
    t.after(async () => {
      child.kill('SIGKILL')
      await daemon.ended
    })
    return daemon
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** Asks the daemon to stop and resolves to how it ended. */
  async stop(): Promise<Ending> {
    this.kill('SIGTERM')
    return this.ended
  }

  /** The first line, already there or still to come, from index `from` on, that `matches`. */
  async waitFor(what: string, matches: (line: LogLine) => boolean, from = 0): Promise<LogLine> {
    let next = from
    let isOver = false
    void this.ended.then(() => {
      isOver = true // endingOf never rejects
    })
    const deadline = AbortSignal.timeout(WAIT_MS)
    for (;;) {
      for (; next < this.lines.length; next++) {
        const line = this.lines[next]
        if (line !== undefined && matches(line)) return line
      }
      if (isOver)
        throw new Error(
          `the daemon ended before ${what}: ${this.stderr || JSON.stringify(this.lines.slice(-5))}`,
        )
      if (deadline.aborted)
        throw new Error(`no ${what} in ${WAIT_MS} ms; last lines: ${JSON.stringify(this.lines.slice(-8))}`)
      await this.#nextChange(deadline)
    }
  }

  /** Waits for the commit of `round` or a later one. */
  async waitForRound(round: number, from = 0): Promise<LogLine> {
    return this.waitFor(
      `the commit of round ${round}`,
      (line) => isCommit(line) && (line.round ?? 0) >= round,
      from,
    )
  }

  /** Its addresses and status URL, once it listens. */
  async whereabouts(from = 0): Promise<{ addresses: string[]; http: string }> {
    const line = await this.waitFor('listening', ({ msg }) => msg === 'listening', from)
    return { addresses: line.addresses ?? [], http: line.http ?? '' }
  }

  /** Hash of the adapter by committed round. */
  adapters(): Map<number, string> {
    return new Map(
      this.lines.filter(isCommit).map(({ round, adapter_sha3_256 }) => [round ?? 0, adapter_sha3_256 ?? '']),
    )
  }

  #nextChange(deadline: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#watchers.delete(wake)
        deadline.removeEventListener('abort', wake)
        resolve()
      }
      this.#watchers.add(wake)
      deadline.addEventListener('abort', wake)
    })
  }

  #wake(): void {
    for (const wake of [...this.#watchers]) wake()
  }
}

/** The daemon's own line of a committed round. */
export function isCommit(line: LogLine): boolean {
  return line.msg === 'round committed' && line.adapter_sha3_256 !== undefined
}

function endingOf(child: ChildProcess): Promise<Ending> {
  return new Promise((resolve) => {
    child.once('close', (code, signal) => resolve({ code, signal }))
    child.once('error', () => resolve({ code: null, signal: null }))
  })
}

async function readAll(stream: NodeJS.ReadableStream): Promise<string> {
  let text = ''
  for await (const chunk of stream) text += String(chunk)
  return text
}
