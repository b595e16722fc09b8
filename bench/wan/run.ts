/**
 * All-reduce across a wide area: hosts in network namespaces, against the bound that the rate sets,
 * 2 (N-1)/N x bytes / rate. Run as root: node --conditions=gym-source bench/wan/run.ts [--nodes 4] [--megabytes 64]
 * [--rate-mbit 50] [--rtt-ms 80] [--loss 0.005] [--runs 3] [--only "f32, 4 sockets, bbr"]. Skipped with a message
 * where namespaces cannot be made.
 */
import { parseArgs } from 'node:util'
import { benchAllReduce, type WireType } from '@gym-node/ring'
import { whyNot } from '../../test/net/namespaces.ts'
import { WideArea, type CongestionControl, type Path } from './wide-area.ts'

interface Case {
  readonly wire: WireType
  readonly sockets: number
  readonly control: CongestionControl
}

const CASES: readonly Case[] = [
  { wire: 'f32', sockets: 1, control: 'bbr' },
  { wire: 'f32', sockets: 4, control: 'bbr' },
  { wire: 'f32', sockets: 1, control: 'reno' },
  { wire: 'f32', sockets: 4, control: 'reno' },
  { wire: 'f32', sockets: 16, control: 'reno' },
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
const megabytes = Number(values.megabytes)
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
      `${nodes} hosts, ${megabytes} MiB, ${bitsPerSecond / 1e6} Mbit/s, ${roundTripMs} ms, ${loss * 100} % loss (${area.kind})`,
    )
    console.log(
      '| case | median s | of the bound of its wire type | of the f32 bound |\n| --- | --- | --- | --- |',
    )
    for (const one of CASES) {
      const name = `${one.wire}, ${one.sockets} socket${one.sockets === 1 ? '' : 's'}, ${one.control}`
      if (values.only === undefined || values.only === name) await measure(area, one, name)
    }
  } finally {
    await area.remove()
  }
}

async function measure(area: WideArea, { wire, sockets, control }: Case, name: string): Promise<void> {
  area.useCongestionControl(control)
  const report = await benchAllReduce({
    nodes,
    megabytes,
    wire,
    carrier: 'direct',
    integrity: 'sealed',
    runs: Number(values.runs),
    sockets,
    hosts: Array.from({ length: nodes }, (_, i) => ({
      listen: [`/ip4/${area.addressOf(i)}/tcp/0`],
      through: area.through(i),
    })),
  })
  const bound = (type: WireType): number =>
    ((2 * (nodes - 1)) / nodes) * ((megabytes * 2 ** 20) / 4) * BYTES[type] * (8 / path.bitsPerSecond)
  const seconds = report.median_ms / 1000
  const share = (type: WireType): string => `${((100 * bound(type)) / seconds).toFixed(0)} %`
  const same = report.same_hash ? '' : ', RESULTS DIFFER'
  console.log(`| ${name} | ${seconds.toFixed(2)}${same} | ${share(wire)} | ${share('f32')} |`)
}
