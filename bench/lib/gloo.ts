/** PyTorch's Gloo all-reduce as a process that runs when told: bench/all-reduce-gloo.py. */
import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { z } from 'zod'

const runSchema = z.object({ ms: z.number(), cpuMs: z.number(), rssMb: z.number() })

/** Plaintext Gloo between `nodes` processes on loopback. */
export class Gloo {
  readonly name = 'gloo'
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  #rssMb = 0

  private constructor(child: ChildProcess, lines: AsyncIterator<string>) {
    this.#child = child
    this.#lines = lines
  }

  static async start(python: string, nodes: number, megabytes: number): Promise<Gloo> {
    const script = new URL('../all-reduce-gloo.py', import.meta.url).pathname
    const child = spawn(python, [script, String(nodes), String(megabytes)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const gloo = new Gloo(child, createInterface(child.stdout)[Symbol.asyncIterator]())
    await gloo.#next()
    return gloo
  }

  async run(): Promise<{ ms: number; cpuMs: number }> {
    this.#child.stdin?.write('run\n')
    const { rssMb, ...run } = runSchema.parse(JSON.parse(await this.#next()))
    this.#rssMb = Math.max(this.#rssMb, rssMb)
    return run
  }

  rssMb(): number {
    return this.#rssMb
  }

  /** The end of its input is its sign to end its ranks and itself. */
  stop(): void {
    this.#child.stdin?.end()
  }

  async #next(): Promise<string> {
    const line = await this.#lines.next()
    if (line.done === true) throw new Error('the Gloo process ended')
    return line.value
  }
}
