/**
 * Delayed averaging with real daemons across a slow network: three `gym-node start` on hosts in network namespaces
 * train the demo model, without `train.overlap` and with it, by turns. Prints the time of a round, of its all-reduce,
 * how many local steps were taken while it ran, and whether all adapters were equal. Run as root:
 * node --conditions=gym-source bench/wan/overlap.ts [--nodes 3] [--rate-mbit 8] [--rounds 6] [--pairs 1]
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  demoFlags,
  GYM_NODE,
  isCommit,
  settings,
  TestDaemon,
  type LogLine,
} from '../../test/e2e/daemon-harness.ts'
import { whyNot } from '../../test/net/namespaces.ts'
import { median } from '../lib/format.ts'
import { WideArea } from './wide-area.ts'

/** Rounds at the start that are not counted: engines warm up, and with overlap the first has nothing to hide behind. */
const WARM_UP_ROUNDS = 2

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '3' },
    'rate-mbit': { type: 'string', default: '8' },
    'rtt-ms': { type: 'string', default: '20' },
    rounds: { type: 'string', default: '6' },
    steps: { type: 'string', default: '8' },
    'lora-rank': { type: 'string', default: '64' },
    pairs: { type: 'string', default: '1' },
  },
})
const nodes = Number(values.nodes)
const rounds = Number(values.rounds)

/** What one node's log says about its counted rounds. */
interface Seen {
  readonly roundSeconds: readonly number[]
  readonly reduceSeconds: readonly number[]
  readonly stepsMeanwhile: readonly number[]
}

const missing = whyNot()
if (missing === null) await main()
else console.log(`skipped: ${missing}`)

async function main(): Promise<void> {
  const bitsPerSecond = Number(values['rate-mbit']) * 1e6
  const path = { bitsPerSecond, roundTripMs: Number(values['rtt-ms']), loss: 0, queueMs: 200 }
  console.log(
    `${nodes} daemons, ${values['rate-mbit']} Mbit/s, ${path.roundTripMs} ms, ${values.steps} steps a round`,
  )
  console.log(
    '| overlap | s a round | s of all-reduce | steps during it | adapters |\n| --- | --- | --- | --- | --- |',
  )
  const medians = new Map<boolean, number[]>([
    [false, []],
    [true, []],
  ])
  for (let pair = 0; pair < Number(values.pairs); pair++) {
    for (const overlap of [false, true]) {
      const area = await WideArea.create(nodes, path)
      try {
        medians.get(overlap)?.push(await measure(area, overlap))
      } finally {
        await area.remove()
      }
    }
  }
  const [without, withOverlap] = [medians.get(false) ?? [], medians.get(true) ?? []].map(median)
  console.log(`with overlap a round takes ${((100 * withOverlap) / without).toFixed(0)} % of the time`)
}

/** Trains `rounds` rounds; prints a row and returns the median seconds a round. */
async function measure(area: WideArea, overlap: boolean): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'gym-overlap-'))
  const daemons: TestDaemon[] = []
  try {
    for (let i = 0; i < nodes; i++) {
      const bootstrap = i === 0 ? [] : (await daemons[0].whereabouts()).addresses
      daemons.push(start(area, i, join(folder, `node-${i}`), overlap, bootstrap))
    }
    const endings = await Promise.all(daemons.map((daemon) => daemon.ended))
    const failed = daemons.find((_, i) => endings[i]?.code !== 0)
    if (failed !== undefined)
      throw new Error(`a daemon failed: ${failed.stderr || JSON.stringify(failed.lines.at(-1))}`)
    return report(daemons, overlap)
  } finally {
    for (const daemon of daemons) daemon.kill('SIGKILL')
    await Promise.all(daemons.map((daemon) => daemon.ended))
    await rm(folder, { recursive: true, force: true })
  }
}

function start(
  area: WideArea,
  host: number,
  stateDir: string,
  overlap: boolean,
  bootstrap: readonly string[],
): TestDaemon {
  const flags = settings({
    'ring.listen': `/ip4/${area.addressOf(host)}/tcp/0`,
    'ring.min_members': nodes,
    'train.overlap': overlap,
    'train.rounds': rounds,
    'train.aggregate_interval': Number(values.steps),
    'train.lora_rank': Number(values['lora-rank']),
  })
  const [command = '', ...through] = area.through(host)
  const found = bootstrap.length > 0 ? ['--bootstrap', bootstrap.join(',')] : []
  const args = [process.execPath, GYM_NODE, 'start', '--state-dir', stateDir]
  const child = spawn(command, [...through, ...args, ...demoFlags(100 + host), ...flags, ...found], {
    cwd: tmpdir(),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return new TestDaemon(child)
}

function report(daemons: readonly TestDaemon[], overlap: boolean): number {
  const seen = daemons.map(({ lines }) => readLog(lines))
  const of = (key: keyof Seen): number => median(seen.flatMap((each) => each[key]))
  const adapters = daemons.map((daemon) => JSON.stringify([...daemon.adapters()]))
  const same = adapters.every((each) => each === adapters[0]) ? 'equal' : 'DIFFER'
  const roundSeconds = of('roundSeconds')
  const cells = [roundSeconds, of('reduceSeconds')].map((seconds) => seconds.toFixed(2))
  console.log(`| ${[overlap ? 'yes' : 'no', ...cells, of('stepsMeanwhile'), same].join(' | ')} |`)
  return roundSeconds
}

/** From commit to commit; from the start of an all-reduce to its end in the ring, and the steps logged in between. */
function readLog(lines: readonly LogLine[]): Seen {
  const commits = lines.filter(isCommit).filter(({ round }) => (round ?? 0) >= WARM_UP_ROUNDS)
  const roundSeconds = commits.slice(1).map((line, i) => secondsBetween(commits[i], line))
  const reduceSeconds: number[] = []
  const stepsMeanwhile: number[] = []
  lines.forEach((line, end) => {
    const isReduced = line.msg === 'round committed' && !isCommit(line)
    if (!isReduced || (line.round ?? 0) <= WARM_UP_ROUNDS || line.round === rounds) return
    const begin = lines.findLastIndex(({ state }, i) => i < end && state === 'reducing')
    reduceSeconds.push(secondsBetween(lines[begin], line))
    stepsMeanwhile.push(lines.slice(begin, end).filter(({ msg }) => msg === 'step').length)
  })
  return { roundSeconds, reduceSeconds, stepsMeanwhile }
}

function secondsBetween(from: LogLine, to: LogLine): number {
  return (Date.parse(to.time) - Date.parse(from.time)) / 1000
}
