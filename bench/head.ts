/**
 * The head of a large vocabulary in training: seconds and memory of log-probabilities, entropies and their gradient by
 * the number of parts that the vocabulary is gone through in. Prints a table. The head's matrix (622 MB at the default
 * sizes) is written once to --file. Usage: node --conditions=gym-source bench/head.ts --file PATH [--tokens 512]
 * [--vocabulary 151936] [--hidden 1024] [--parts 1,4,16,64] [--runs 5] [--threads 2]
 */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import type { Feed, Session } from '../packages/gspo/src/engine/engine.ts'
import { createOnnxCpuEngine } from '../packages/gspo/src/engine/onnx-cpu.ts'
import { gradients } from '../packages/gspo/src/graph/gradient.ts'
import { GraphBuilder } from '../packages/gspo/src/graph/graph.ts'
import { headScoresWithGradient, TARGETS_INPUT } from '../packages/gspo/src/models/head.ts'
import { median } from './lib/format.ts'

const { values: flags } = parseArgs({
  options: {
    file: { type: 'string' },
    tokens: { type: 'string', default: '512' },
    vocabulary: { type: 'string', default: '151936' },
    hidden: { type: 'string', default: '1024' },
    parts: { type: 'string', default: '1,4,16,64' },
    runs: { type: 'string', default: '5' },
    threads: { type: 'string', default: '2' },
  },
})
if (flags.file === undefined) throw new Error('--file PATH is missing: where to keep the matrix of the head')
const file = path.resolve(flags.file)
const [tokens, vocabulary, hidden] = [flags.tokens, flags.vocabulary, flags.hidden].map(Number) as [
  number,
  number,
  number,
]
await writeMatrix()
const feeds: Record<string, Feed> = {
  hidden: {
    dims: [tokens, hidden],
    values: Float32Array.from({ length: tokens * hidden }, (_, i) => Math.sin(13 * i)),
  },
  [TARGETS_INPUT]: {
    dims: [tokens],
    values: Int32Array.from({ length: tokens }, (_, i) => (7919 * i) % vocabulary),
  },
}
const engine = createOnnxCpuEngine({ threads: Number(flags.threads) })
const sessions = new Map<number, Session>()
for (const parts of flags.parts.split(',').map(Number)) sessions.set(parts, await compile(parts))
const seconds = new Map<number, number[]>()
const megabytes = new Map<number, number[]>()
for (let run = 0; run <= Number(flags.runs); run++)
  for (const [parts, session] of sessions) {
    // The kernel forgets the peak so far: what is left is this run's.
    writeFileSync('/proc/self/clear_refs', '5')
    const idle = statusOf('VmRSS')
    const start = performance.now()
    await session.run(feeds)
    if (run === 0) continue // reads the matrix
    seconds.set(parts, [...(seconds.get(parts) ?? []), (performance.now() - start) / 1000])
    megabytes.set(parts, [...(megabytes.get(parts) ?? []), statusOf('VmHWM') - idle])
  }
console.log(`${tokens} tokens, ${vocabulary} x ${hidden}, medians of ${flags.runs} runs by turns\n`)
console.log('| parts | seconds | MB on top |\n| --- | --- | --- |')
for (const parts of sessions.keys())
  console.log(
    `| ${parts} | ${median(seconds.get(parts) ?? []).toFixed(2)} | ${median(megabytes.get(parts) ?? []).toFixed(0)} |`,
  )
for (const session of sessions.values()) await session.close()
await engine.close()

function compile(parts: number): Promise<Session> {
  const g = new GraphBuilder()
  const bytes = 4 * vocabulary * hidden
  const head = g.weight({
    name: 'head',
    file,
    offset: 0,
    byteLength: bytes,
    stored: 'F32',
    shape: [vocabulary, hidden],
  })
  const rows = g.input('hidden', ['N', hidden])
  const { logps, entropies } = headScoresWithGradient(g, rows, head, parts)
  const [gradient = rows] = gradients(g, g.sum(logps, [0]), [rows])
  return engine.compile(g.finish({ logps, entropies, gradient }), { weights: 'share' })
}

/** Numbers around zero of a deviation of 0.02, as trained heads have. */
async function writeMatrix(): Promise<void> {
  if (existsSync(file) && statSync(file).size === 4 * vocabulary * hidden) return
  const handle = await open(file, 'w')
  try {
    let state = 1
    for (let row = 0; row < vocabulary; row += 1024) {
      const chunk = Float32Array.from({ length: Math.min(1024, vocabulary - row) * hidden }, () => {
        state = (state * 48271) % 2147483647
        return (state / 2147483647 - 0.5) * 0.07
      })
      await handle.write(new Uint8Array(chunk.buffer))
    }
  } finally {
    await handle.close()
  }
}

/** A line of /proc/self/status, MB of 2^20 bytes. */
function statusOf(key: string): number {
  return Number(new RegExp(`${key}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024
}
