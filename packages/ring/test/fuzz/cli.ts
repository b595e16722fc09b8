/**
 * Fuzzes the decoders of the ring: `npm run fuzz -- [--cases 1000000] [--target NAME] [--from 1]`, or one case again
 * with `--target NAME --seed N`. Cases are shared out by what one costs. Prints a table; exit code 1 when one failed.
 */
import { parseArgs } from 'node:util'
import { caseRandom, runCases } from './run.ts'
import { TARGETS } from './targets.ts'

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '1000000' },
    target: { type: 'string' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
  },
})
const chosen = TARGETS.filter((target) => values.target === undefined || target.name === values.target)
if (chosen.length === 0) {
  console.error(`no target ${values.target}; there are: ${TARGETS.map(({ name }) => name).join(', ')}`)
  process.exit(2)
}

if (values.seed !== undefined) {
  for (const target of chosen) await target.run(caseRandom(Number(values.seed)))
  console.log('holds')
} else {
  console.log(
    '| decoder | cases | s | slowest ms | grown MiB | failures |\n| --- | --- | --- | --- | --- | --- |',
  )
  for (const target of chosen) {
    const cases = Math.ceil(Number(values.cases) / target.cost)
    const report = await runCases(target, Number(values.from), (done) => done >= cases)
    const cells = [
      target.name,
      report.cases,
      report.seconds.toFixed(1),
      report.slowestMs.toFixed(1),
      report.grownMb.toFixed(0),
      report.failures.length,
    ]
    console.log(`| ${cells.join(' | ')} |`)
    for (const { seed, reason } of report.failures) {
      console.log(
        `case ${seed}: ${reason}\n  replay: npm run fuzz -- --target "${target.name}" --seed ${seed}`,
      )
      process.exitCode = 1
    }
  }
}
