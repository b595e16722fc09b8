/**
 * The floor: processes in a ring push as many bytes as an all-reduce moves through plain sockets, without reading,
 * adding or sealing them. Run by itself it is one such process.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'

interface Order {
  readonly successorPort?: number
  readonly bytes?: number
}

interface Report {
  readonly port?: number
  readonly ms?: number
  readonly cpuMs?: number
  readonly rssMb?: number
}

const CHUNK_BYTES = 512 * 1024

/** The processes of one ring. */
export class RawRing {
  readonly name = 'raw sockets'
  readonly #bytes: number
  readonly #children: ChildProcess[] = []
  #rssMb = 0

  private constructor(nodes: number, megabytes: number) {
    this.#bytes = Math.floor((2 * (nodes - 1) * megabytes * 1024 * 1024) / nodes)
  }

  static async start(nodes: number, megabytes: number): Promise<RawRing> {
    const ring = new RawRing(nodes, megabytes)
    for (let i = 0; i < nodes; i++) ring.#children.push(fork(new URL(import.meta.url)))
    const ports = (await ring.#all()).map(({ port }) => port ?? 0)
    ring.#children.forEach((child, i) => child.send({ successorPort: ports[(i + 1) % nodes] }))
    await ring.#all()
    await ring.run()
    return ring
  }

  async run(): Promise<{ ms: number; cpuMs: number }> {
    const reports = this.#all()
    for (const child of this.#children) child.send({ bytes: this.#bytes })
    const done = await reports
    this.#rssMb = Math.max(this.#rssMb, ...done.map(({ rssMb }) => rssMb ?? 0))
    return {
      ms: Math.max(...done.map(({ ms }) => ms ?? 0)),
      cpuMs: done.reduce((sum, { cpuMs }) => sum + (cpuMs ?? 0), 0),
    }
  }

  rssMb(): number {
    return Math.round(this.#rssMb)
  }

  stop(): void {
    for (const child of this.#children) child.kill('SIGKILL')
  }

  #all(): Promise<Report[]> {
    return Promise.all(this.#children.map(async (child) => ((await once(child, 'message')) as [Report])[0]))
  }
}

/** One process: counts what its predecessor sends, sends as much to its successor. */
async function member(): Promise<void> {
  let received = 0
  let due = 0
  let done: (() => void) | null = null
  const report = (value: Report): void => {
    process.send?.(value)
  }
  const onRead = (count: number): boolean => {
    received += count
    if (received === due) done?.()
    return true
  }
  const listener = net.createServer().listen(0, '127.0.0.1')
  await once(listener, 'listening')
  // As in the ring, the receiver dials the sender: only a dialled socket reads into memory of its owner's. It may dial
  // before this process hears whom to dial.
  const accepted = once(listener, 'connection') as Promise<[net.Socket]>
  report({ port: (listener.address() as net.AddressInfo).port })
  const [{ successorPort }] = (await once(process, 'message')) as [Order]
  const buffer = Buffer.alloc(CHUNK_BYTES)
  net.connect({ port: successorPort ?? 0, host: '127.0.0.1', onread: { buffer, callback: onRead } })
  const [socket] = await accepted
  const chunk = Buffer.alloc(CHUNK_BYTES, 1)
  report({})
  for await (const [{ bytes }] of messages()) {
    const cpu = process.cpuUsage()
    const start = performance.now()
    due = bytes ?? 0
    const all = new Promise<void>((resolve) => {
      done = resolve
      if (received === due) resolve()
    })
    for (let sent = 0; sent < due; sent += CHUNK_BYTES) {
      if (!socket.write(chunk.subarray(0, Math.min(CHUNK_BYTES, due - sent)))) await once(socket, 'drain')
    }
    await all
    received = 0
    const { user, system } = process.cpuUsage(cpu)
    const rssMb = process.resourceUsage().maxRSS / 1024
    report({ ms: performance.now() - start, cpuMs: (user + system) / 1000, rssMb })
  }
}

async function* messages(): AsyncGenerator<[Order]> {
  for (;;) yield (await once(process, 'message')) as [Order]
}

if (import.meta.main) {
  process.on('disconnect', () => process.exit(0)) // goes with the benchmark, however that ends
  await member()
}
