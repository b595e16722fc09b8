/**
 * All-reduce across a wide area: hosts in network namespaces, against the bound that the rate sets,
 * 2 (N-1)/N x bytes / rate. Run as root: node --conditions=gym-source bench/wan/run.ts [--nodes 4] [--megabytes 64]
 * [--rate-mbit 50] [--rtt-ms 80] [--loss 0.005] [--runs 3] [--only "4 sockets, reno"]. Says on standard error how far it
 * is. Skipped with a message where namespaces cannot be made.
 */
import { parseArgs } from 'node:util'
import { AllReduceBench, type BenchReport, type WireType } from '@gym-node/ring'
import { whyNot } from '../../test/net/namespaces.ts'
import { WideArea, type CongestionControl, type Path } from './wide-area.ts'

interface Case {
  readonly wire: WireType
  readonly sockets: number
  readonly control: CongestionControl
  /**
   * MiB at most. At this loss Reno holds one socket to 2.5 Mbit/s (Mathis et al. 1997), so one socket with 64 MiB would
   * take six minutes a round; and a segment needs a chunk of 1 MiB for each socket.
   */
  readonly mostMegabytes?: number
}

const CASES: readonly Case[] = [
  { wire: 'f32', sockets: 1, control: 'bbr' },
  { wire: 'f32', sockets: 4, control: 'bbr' },
  { wire: 'f32', sockets: 1, control: 'reno', mostMegabytes: 8 },
  { wire: 'f32', sockets: 4, control: 'reno', mostMegabytes: 16 },
  { wire: 'f32', sockets: 16, control: 'reno' },
  { wire: 'int8', sockets: 4, control: 'reno', mostMegabytes: 64 },
  { wire: 'bf16', sockets: 4, control: 'bbr' },
  { wire: 'int8', sockets: 4, control: 'bbr' },
]

/** Bytes on the wire for each float32, as the wire type encodes it. */
const BYTES: Readonly<Record<WireType, number>> = { f32: 4, bf16: 2, int8: 1 + 4 / 256 }

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '4' },
    megabytes: { type: 'string', default: '64' },
    'rate-mbit': { type: 'string', default: '50' },
    'rtt-ms': { type: 'string', default: '80' },
    loss: { type: 'string', default: '0.005' },
    runs: { type: 'string', default: '3' },
    only: { type: 'string' },
  },
})
const nodes = Number(values.nodes)
const allMegabytes = Number(values.megabytes)
const path: Path = {
  bitsPerSecond: Number(values['rate-mbit']) * 1e6,
  roundTripMs: Number(values['rtt-ms']),
  loss: Number(values.loss),
  queueMs: 100,
}

const missing = whyNot()
if (missing === null) await main()
else console.log(`skipped: ${missing}`)

async function main(): Promise<void> {
  const area = await WideArea.create(nodes, path)
  try {
    const { bitsPerSecond, roundTripMs, loss } = path
    console.log(
      `${nodes} hosts, ${bitsPerSecond / 1e6} Mbit/s, ${roundTripMs} ms, ${loss * 100} % loss (${area.kind})`,
    )
    console.log(
      '| case | MiB | median s | of the bound of its wire type | of the f32 bound |\n| --- | --- | --- | --- | --- |',
    )
    for (const one of CASES) {
      const name = `${one.wire}, ${one.sockets} socket${one.sockets === 1 ? '' : 's'}, ${one.control}`
      if (values.only === undefined || name.includes(values.only)) await measure(area, one, name)
    }
  } finally {
    await area.remove()
  }
}

async function measure(area: WideArea, one: Case, name: string): Promise<void> {
  const { wire, sockets, control } = one
  const megabytes = Math.min(allMegabytes, one.mostMegabytes ?? Infinity)
  const runs = Number(values.runs)
  area.useCongestionControl(control)
  console.error(`${name}: ${megabytes} MiB, the nodes start`)
  const bench = await AllReduceBench.start({
    nodes,
    megabytes,
    wire,
    carrier: 'direct',
    integrity: 'sealed',
    runs,
    // The network is what takes the time, and one run opens the congestion windows.
    warmUps: control === 'reno' ? 0 : 1,
    sockets,
    hosts: Array.from({ length: nodes }, (_, i) => ({
      listen: [`/ip4/${area.addressOf(i)}/tcp/0`],
      through: area.through(i),
    })),
  })
  const report = await timed(bench, runs, name)
  const bound = (type: WireType): number =>
    ((2 * (nodes - 1)) / nodes) * ((megabytes * 2 ** 20) / 4) * BYTES[type] * (8 / path.bitsPerSecond)
  const seconds = report.median_ms / 1000
  const share = (type: WireType): string => `${((100 * bound(type)) / seconds).toFixed(0)} %`
  const same = report.same_hash ? '' : ', RESULTS DIFFER'
  console.log(`| ${name} | ${megabytes} | ${seconds.toFixed(2)}${same} | ${share(wire)} | ${share('f32')} |`)
}

/** All runs of one case, each told as it ends: who waits for minutes wants to know that it moves. */
async function timed(bench: AllReduceBench, runs: number, name: string): Promise<BenchReport> {
  try {
    for (let run = 1; run <= runs; run++) {
      const { ms } = await bench.run()
      console.error(`${name}: run ${run} of ${runs}, ${(ms / 1000).toFixed(1)} s`)
    }
    return bench.report()
  } finally {
    bench.stop()
  }
}
