/** One real `gym-node start` process that the launcher watches over an IPC channel. Its log goes to a file. */
import { spawn, type ChildProcess } from 'node:child_process'
import { open } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { CHILD_STOP_MS } from '../defaults.ts'
import { parseParentMessage, type ParentMessage } from '../parent-link.ts'

const ENTRY = fileURLToPath(new URL('../../bin/gym-node.js', import.meta.url))

/** How a daemon ended. */
export interface NodeEnding {
  readonly exitCode: number | null
  readonly signal: NodeJS.Signals | null
}

/** A running daemon. */
export class NodeProcess {
  readonly #child: ChildProcess
  /** Resolves when the process has ended, never rejects. */
  readonly ended: Promise<NodeEnding>

  private constructor(child: ChildProcess) {
    this.#child = child
    this.ended = new Promise((resolve) => {
      child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }))
      child.once('error', () => resolve({ exitCode: null, signal: null }))
    })
  }

  /**
   * Starts `gym-node start` with `args`. It gets a process group of its own, so that Ctrl+C reaches it only
   * through the launcher; when the launcher dies, the closed channel stops it.
   */
  static async start(
    args: readonly string[],
    logFile: string,
    onMessage: (message: ParentMessage) => void,
  ): Promise<NodeProcess> {
    const log = await open(logFile, 'a', 0o600)
    try {
      const child = spawn(process.execPath, [ENTRY, 'start', ...args], {
        stdio: ['ignore', log.fd, log.fd, 'ipc'],
        detached: true,
        serialization: 'advanced',
      })
      child.on('message', (value) => {
        const message = parseParentMessage(value)
        if (message !== null) onMessage(message)
      })
      return new NodeProcess(child)
    } finally {
      await log.close()
    }
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /** Asks the daemon to stop; kills it when it has not after the deadline. */
  async stop(): Promise<NodeEnding> {
    this.#child.kill('SIGTERM')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), CHILD_STOP_MS)
    try {
      return await this.ended
    } finally {
      clearTimeout(timer)
    }
  }
}
