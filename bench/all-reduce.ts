/**
 * All-reduce by ring size, vector size, wire type and carrier, beside its floors: a memory copy, a raw loopback socket,
 * and plaintext Gloo when TORCH_PYTHON names a Python with torch. Run: node --conditions=gym-source bench/all-reduce.ts
 * [--nodes 2,4] [--megabytes 64] [--runs 5]
 */
import { execFileSync } from 'node:child_process'
import net from 'node:net'
import { parseArgs } from 'node:util'
import { benchAllReduce, type BenchOptions } from '@gym-node/ring'

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '2,4' },
    megabytes: { type: 'string', default: '16,64' },
    runs: { type: 'string', default: '5' },
  },
})
const numbers = (text: string): number[] => text.split(',').map(Number)
const runs = Number(values.runs)

function memcpyMs(megabytes: number): number {
  const from = new Uint8Array(megabytes * 1024 * 1024).fill(1)
  const to = new Uint8Array(from.byteLength)
  const times = Array.from({ length: 7 }, () => {
    const start = performance.now()
    to.set(from)
    return performance.now() - start
  })
  return times.sort((a, b) => a - b)[3] ?? 0
}

/** One vector through one loopback socket, both ends in this process: what a hop costs without any work. */
async function socketMs(megabytes: number): Promise<number> {
  const total = megabytes * 1024 * 1024
  const chunk = Buffer.alloc(512 * 1024)
  const server = net.createServer((socket) => {
    let sent = 0
    const pump = (): void => {
      while (sent < total) {
        sent += chunk.byteLength
        if (!socket.write(chunk)) return void socket.once('drain', pump)
      }
      socket.end()
    }
    pump()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  const start = performance.now()
  await new Promise<void>((resolve) => {
    const buffer = Buffer.alloc(512 * 1024)
    net
      .connect({ host: '127.0.0.1', port, onread: { buffer, callback: () => true } })
      .on('close', () => resolve())
  })
  server.close()
  return performance.now() - start
}

function gloo(nodes: number, megabytes: number): string {
  const python = process.env.TORCH_PYTHON
  if (python === undefined) return 'gloo skipped: set TORCH_PYTHON to a Python that has torch'
  const script = new URL('./all-reduce-gloo.py', import.meta.url).pathname
  return execFileSync(python, [script, String(nodes), String(megabytes), String(runs)], {
    encoding: 'utf8',
  }).trim()
}

for (const megabytes of numbers(values.megabytes)) {
  console.log(`memcpy ${megabytes} MiB: ${memcpyMs(megabytes).toFixed(1)} ms`)
  console.log(`one socket, one way, ${megabytes} MiB: ${(await socketMs(megabytes)).toFixed(1)} ms`)
  for (const nodes of numbers(values.nodes)) {
    console.log(gloo(nodes, megabytes))
    const cases: Pick<BenchOptions, 'wire' | 'carrier'>[] = [
      { wire: 'f32', carrier: 'direct' },
      { wire: 'bf16', carrier: 'direct' },
      { wire: 'int8', carrier: 'direct' },
      { wire: 'f32', carrier: 'stream' },
    ]
    for (const { wire, carrier } of cases) {
      const report = await benchAllReduce({ nodes, megabytes, wire, carrier, integrity: 'sealed', runs })
      console.log(JSON.stringify(report))
    }
  }
}
