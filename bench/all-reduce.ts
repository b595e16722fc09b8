/**
 * All-reduce by ring size, vector size, wire type, carrier and integrity, beside its floor (the same bytes through raw
 * sockets, in bench/lib/raw-ring.ts) and plaintext Gloo when TORCH_PYTHON names a Python with torch. All contenders of a
 * ring size are alive at once and take turns, one run each, so that a busy machine is equally busy for all.
 * Run: node --conditions=gym-source bench/all-reduce.ts [--nodes 2,4] [--megabytes 64] [--runs 7] [--only f32,signed]
 */
import { parseArgs } from 'node:util'
import { AllReduceBench, type BenchOptions } from '@gym-node/ring'
import { Gloo } from './lib/gloo.ts'
import { RawRing } from './lib/raw-ring.ts'

/** One contender: a run at a time, then what all its runs came to. */
interface Contender {
  readonly name: string
  run(): Promise<{ readonly ms: number; readonly cpuMs: number }>
  rssMb(): number
  stop(): void
}

type Case = Pick<BenchOptions, 'wire' | 'carrier' | 'integrity'>

const CASES: Readonly<Record<string, Case>> = {
  f32: { wire: 'f32', carrier: 'direct', integrity: 'sealed' },
  bf16: { wire: 'bf16', carrier: 'direct', integrity: 'sealed' },
  int8: { wire: 'int8', carrier: 'direct', integrity: 'sealed' },
  signed: { wire: 'f32', carrier: 'direct', integrity: 'signed' },
  'signed int8': { wire: 'int8', carrier: 'direct', integrity: 'signed' },
  stream: { wire: 'f32', carrier: 'stream', integrity: 'sealed' },
}

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '2,4' },
    megabytes: { type: 'string', default: '64' },
    runs: { type: 'string', default: '7' },
    only: { type: 'string' },
  },
})
const numbers = (text: string): number[] => text.split(',').map(Number)
const runs = Number(values.runs)
const names = values.only?.split(',') ?? Object.keys(CASES)

async function ringContender(name: string, nodes: number, megabytes: number): Promise<Contender> {
  const bench = await AllReduceBench.start({ nodes, megabytes, runs, ...CASES[name] })
  return {
    name,
    run: () => bench.run(),
    rssMb: () => {
      if (!bench.report().same_hash) throw new Error(`${name}: the results differ between nodes`)
      return bench.report().peak_rss_mb
    },
    stop: () => bench.stop(),
  }
}

async function contenders(nodes: number, megabytes: number): Promise<Contender[]> {
  const list: Contender[] = []
  const python = process.env.TORCH_PYTHON
  if (python === undefined) console.log('gloo skipped: set TORCH_PYTHON to a Python that has torch')
  else list.push(await Gloo.start(python, nodes, megabytes))
  list.push(await RawRing.start(nodes, megabytes))
  for (const name of names) list.push(await ringContender(name, nodes, megabytes))
  return list
}

function middle(list: readonly number[]): number {
  return [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0
}

const row = (cells: readonly (string | number)[]): void => console.log(`| ${cells.join(' | ')} |`)
row(['nodes', 'MB', 'what', 'median ms', 'min', 'max', 'times gloo', 'CPU s/GB·hop', 'peak RSS MB'])
row(Array.from({ length: 9 }, () => '---'))
for (const nodes of numbers(values.nodes)) {
  for (const megabytes of numbers(values.megabytes)) {
    const all = await contenders(nodes, megabytes)
    try {
      const results = all.map(() => [] as { readonly ms: number; readonly cpuMs: number }[])
      for (let run = 0; run < runs; run++) {
        for (const [i, contender] of all.entries()) results[i].push(await contender.run())
      }
      const gloo = all.findIndex(({ name }) => name === 'gloo')
      const hops = (2 * (nodes - 1) * megabytes * 1024 * 1024) / 1e9
      for (const [i, contender] of all.entries()) {
        const ms = results[i].map((result) => result.ms)
        // The median of the ratios of neighbours in time: a slow moment hits both.
        const ratio = gloo < 0 ? '-' : middle(ms.map((time, run) => time / results[gloo][run].ms)).toFixed(2)
        const cpu = middle(results[i].map((result) => result.cpuMs)) / 1000 / hops
        const spread = [middle(ms), Math.min(...ms), Math.max(...ms)].map((time) => time.toFixed(1))
        row([nodes, megabytes, contender.name, ...spread, ratio, cpu.toFixed(2), contender.rssMb()])
      }
    } finally {
      for (const contender of all) contender.stop()
    }
  }
}
