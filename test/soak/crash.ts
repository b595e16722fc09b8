/**
 * npm run soak:crash -- [--seed 1] [--kills 200] [--rounds 200] [--nodes 3]: the crash soak. Prints each crash and, at
 * the end, one line of JSON; exits 1 at the first finding and leaves the folder for a look. The seed repeats the plan.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runCrashes } from './crash-run.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    kills: { type: 'string', default: '200' },
    rounds: { type: 'string', default: '200' },
    nodes: { type: 'string', default: '3' },
  },
})
const folder = await mkdtemp(join(tmpdir(), 'gym-crash-'))
const startedAt = performance.now()
try {
  const report = await runCrashes({
    folder,
    seed: Number(values.seed),
    kills: Number(values.kills),
    rounds: Number(values.rounds),
    nodes: Number(values.nodes),
    onProgress: (text) =>
      void process.stdout.write(`${((performance.now() - startedAt) / 1000).toFixed(1)} s  ${text}\n`),
  })
  const seconds = Math.round((performance.now() - startedAt) / 1000)
  process.stdout.write(
    `${JSON.stringify({ seed: Number(values.seed), nodes: Number(values.nodes), ...report, adapters: report.adapters.size, seconds })}\n`,
  )
  await rm(folder, { recursive: true, force: true })
} catch (error) {
  process.stderr.write(`seed ${values.seed}, state folders in ${folder}\n`)
  throw error
}
