/**
 * Fuzzer of the DELTA reader. Prints what every refusal was for; exits 1 on the first case that breaks a promise, with
 * the seed that repeats it.
 *   node --conditions=gym-source packages/wire/test/fuzz-delta.ts --cases 1000000 --seed 1
 */
import { parseArgs } from 'node:util'
import { runFuzz } from './fuzz-run.ts'

const { values } = parseArgs({
  options: { cases: { type: 'string', default: '100000' }, seed: { type: 'string', default: '1' } },
})
const started = process.hrtime.bigint()
const report = await runFuzz(Number(values.cases), Number(values.seed))
const seconds = Number(process.hrtime.bigint() - started) / 1e9
console.log(`${report.cases} cases in ${seconds.toFixed(1)} s, seed ${values.seed}`)
for (const [outcome, count] of [...report.outcomes].sort((a, b) => b[1] - a[1])) {
  console.log(`${outcome.padEnd(20)} ${String(count).padStart(9)}`)
}
console.log(`most memory in use: ${(report.peakBytes / 2 ** 20).toFixed(0)} MiB`)
if (report.failure !== null) {
  console.error(report.failure)
  process.exitCode = 1
}
