/**
 * Rings of real processes under every fault of the list, for every size: `npm run test:chaos -- [--sizes 2,3,4,5,6]
 * [--seed 1]`; or under random faults for as long as wished: `npm run soak -- --minutes 120 [--sizes 4]`, beside other
 * work with a longer pause between rounds and more patience: `--think-ms 500 --patience 5`. Prints a table; exit code 1
 * when results differed, a committed round was lost, or a ring did not recover in time.
 */
import { parseArgs } from 'node:util'
import { Random } from '../../packages/ring/test/sim/random.ts'
import { whyNot } from '../net/namespaces.ts'
import { ChaosRing } from './chaos-ring.ts'
import { FAULTS, type ChaosFault } from './faults.ts'

/** The survivors must commit again this long after the fault can be known. */
const RECOVERY_MS = 10_000
/** All must be back this long after the fault has passed. */
const WHOLE_AGAIN_MS = 60_000

interface Outcome {
  readonly recoveryMs: number | null
  readonly wholeMs: number
}

const { values } = parseArgs({
  options: {
    sizes: { type: 'string', default: '2,3,4,5,6' },
    seed: { type: 'string', default: '1' },
    minutes: { type: 'string' },
    fault: { type: 'string', multiple: true },
    // ms of pretended training between rounds: short, so that a round is nearly always under way
    'think-ms': { type: 'string', default: '30' },
    // times the usual time to recover in, for machines with other work
    patience: { type: 'string', default: '1' },
  },
})
const missing = whyNot()
if (missing !== null) console.log(`faults of the network are left out: ${missing}`)
const sizes = values.sizes.split(',').map(Number)
const seed = Number(values.seed)
const patience = Number(values.patience)
const setup = { useNamespaces: missing === null, thinkMs: Number(values['think-ms']) }
let failures = 0
for (const size of sizes) {
  if (values.minutes === undefined) failures += await everyFault(size, new Random(seed * 1000 + size))
  else failures += await soak(size, new Random(seed * 1000 + size), Number(values.minutes) * 60_000)
}
console.log(failures === 0 ? '\nno divergence, no round lost, every ring recovered' : `\n${failures} failed`)
process.exit(failures === 0 ? 0 : 1)

function faultsFor(size: number): ChaosFault[] {
  return FAULTS.filter(
    (fault) =>
      (missing === null || fault.needsNamespaces !== true) &&
      size >= (fault.minSize ?? 2) &&
      (values.fault === undefined || values.fault.includes(fault.name)),
  )
}

async function everyFault(size: number, random: Random): Promise<number> {
  const ring = new ChaosRing(size, random, setup)
  let failed = 0
  console.log(
    `\n${size} nodes, seed ${seed}\n| fault | others go on after | whole again after |\n| --- | --- | --- |`,
  )
  try {
    await ring.start()
    for (const fault of faultsFor(size)) {
      try {
        const { recoveryMs, wholeMs } = await endure(ring, fault)
        const recovery = recoveryMs === null ? 'no majority: waited' : seconds(recoveryMs)
        console.log(`| ${fault.name} | ${recovery} | ${seconds(wholeMs)} |`)
      } catch (thrown) {
        failed += 1
        console.log(`| ${fault.name} | FAILED: ${String(thrown)} | |`)
        break // what follows would only tell of the same
      }
    }
  } finally {
    await ring.close()
  }
  return failed
}

async function soak(size: number, random: Random, forMs: number): Promise<number> {
  const ring = new ChaosRing(size, random, setup)
  const faults = faultsFor(size)
  const end = performance.now() + forMs
  let struck = 0
  const say = (): void =>
    console.log(`${size} nodes: ${ring.processes.newestRound} rounds, ${struck} faults, 0 divergences`)
  // Whoever stops it early wants to know how far it came, and no namespace left behind.
  const stopEarly = (): void => {
    say()
    void ring.close().finally(() => process.exit(0))
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stopEarly)
  let saidAt = performance.now()
  try {
    await ring.start()
    while (performance.now() < end) {
      const fault = faults[random.below(faults.length)]
      if (fault === undefined) break
      try {
        await endure(ring, fault)
      } catch (thrown) {
        console.log(`after ${struck} faults, "${fault.name}": ${String(thrown)}`)
        return 1
      }
      struck += 1
      if (performance.now() - saidAt < 60_000) continue
      saidAt = performance.now()
      say()
    }
    say()
    return 0
  } finally {
    await ring.close()
  }
}

/** One fault, from its stroke until all are whole again. */
async function endure(ring: ChaosRing, fault: ChaosFault): Promise<Outcome> {
  const { processes } = ring
  await processes.untilRoundsGoOn(ring.nodes, 1, patience * WHOLE_AGAIN_MS)
  const { down, detectMs, mend } = await fault.strike(ring)
  const struckAt = performance.now()
  const survivors = ring.nodes.filter((node) => !down.includes(node))
  const goesOn =
    ring.isQuorum(survivors) || (down.length > 0 && ring.isQuorum([...survivors, -1]) && isPair(fault))
  let recoveryMs: number | null = null
  if (goesOn && survivors.length > 0) {
    // Two: the first may have been on its way.
    await processes.untilRoundsGoOn(survivors, 2, detectMs + patience * RECOVERY_MS)
    recoveryMs = performance.now() - struckAt
  }
  ring.check()
  const mendedAt = performance.now()
  await mend()
  await processes.untilRoundsGoOn(ring.nodes, 2, patience * WHOLE_AGAIN_MS)
  ring.check()
  return { recoveryMs, wholeMs: performance.now() - mendedAt }
}

/** Of a pair that cannot talk only one goes, so one more votes than is named. */
function isPair(fault: ChaosFault): boolean {
  return fault.name.startsWith('one pair')
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}
