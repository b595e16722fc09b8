/**
 * The head of a large vocabulary in training: seconds and memory of log-probabilities, entropies and their gradient by
 * the number of parts that the vocabulary is gone through in. Prints a table. The head's matrix (622 MB at the default
 * sizes) is written once to --file. Usage: node --conditions=gym-source bench/head.ts --file PATH [--tokens 512]
 * [--vocabulary 151936] [--hidden 1024] [--parts 1,4,16,64] [--runs 5] [--threads 2]
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import type { Engine, Feed, Session } from '../packages/gspo/src/engine/engine.ts'
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
    /** For the processes that measure: so many parts, once. */
    only: { type: 'string' },
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
if (flags.only === undefined) compare()
else await measure(Number(flags.only))

/** A process for each measurement, by turns: memory that one has freed is not the next one's. */
function compare(): void {
  const all = flags.parts.split(',').map(Number)
  const seconds = new Map<number, number[]>()
  const megabytes = new Map<number, number[]>()
  for (let run = 0; run < Number(flags.runs); run++)
    for (const parts of all) {
      const args = [
        '--conditions=gym-source',
        import.meta.filename,
        ...process.argv.slice(2),
        '--only',
        `${parts}`,
      ]
      const output = execFileSync(process.execPath, args, { encoding: 'utf8' })
      const measured = JSON.parse(output) as { seconds: number; megabytes: number }
      seconds.set(parts, [...(seconds.get(parts) ?? []), measured.seconds])
      megabytes.set(parts, [...(megabytes.get(parts) ?? []), measured.megabytes])
    }
  console.log(`${tokens} tokens, ${vocabulary} x ${hidden}, medians of ${flags.runs} runs by turns\n`)
  console.log('| parts | seconds | MB beside the weights |\n| --- | --- | --- |')
  for (const parts of all)
    console.log(
      `| ${parts} | ${median(seconds.get(parts) ?? []).toFixed(2)} | ${median(megabytes.get(parts) ?? []).toFixed(0)} |`,
    )
}

/** Prints one line of JSON: seconds of a run after a first one, and anonymous memory at its peak beyond the idle process's. */
async function measure(parts: number): Promise<void> {
  const engine = createOnnxCpuEngine({ threads: Number(flags.threads) })
  const session = await compile(engine, parts)
  const idle = statusOf('RssAnon')
  await session.run(feeds)
  // The kernel forgets the peak so far.
  writeFileSync('/proc/self/clear_refs', '5')
  const start = performance.now()
  await session.run(feeds)
  const seconds = (performance.now() - start) / 1000
  const megabytes = statusOf('VmHWM') - statusOf('RssFile') - idle
  console.log(JSON.stringify({ seconds, megabytes }))
  await session.close()
  await engine.close()
}

function compile(engine: Engine, parts: number): Promise<Session> {
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
