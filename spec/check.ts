/**
 * Runs Spin over the models in a list of configurations: those that must hold are searched through, the mutations must
 * break. `node spec/check.ts [--quick] [--only NAME]` prints a table and exits 1 when a result is not the expected one.
 */
import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** One search. `quick` ones run in the tests, seconds each; the others take minutes and gigabytes. */
export interface Configuration {
  readonly name: string
  /** the protocol among honest members, or the votes of one epoch with some that lie */
  readonly model: 'ring.pml' | 'votes.pml'
  /** bounds and mutations, the -D options of the model */
  readonly defines: readonly string[]
  readonly expect: 'holds' | 'breaks'
  readonly quick: boolean
  /** `bitstate` visits as much as fits in 512 MiB of bits; `exhaustive` stores a 64-bit hash of every state */
  readonly search: 'exhaustive' | 'bitstate'
}

/** What a search found. */
export interface Finding {
  /** the assertion that failed, null when none did */
  readonly violation: string | null
  /** the steps that lead to it, in words; empty without a violation */
  readonly story: readonly string[]
  /** false when the search ended early, by a violation or a limit */
  readonly complete: boolean
  readonly states: number
  readonly depth: number
  readonly seconds: number
  readonly memoryMb: number
}

const FOLDER = dirname(fileURLToPath(import.meta.url))
const MEMORY_LIMIT_MB = 6000
/** After this the search ends and says how far it came. */
const SEARCH_LIMIT_MINUTES = { quick: 4, exhaustive: 60, bitstate: 10 } as const
/** The searcher looks at its clock only now and then; this much later it is killed. */
const SEARCH_GRACE_S = 180
const DEPTH_LIMIT = 100_000
const OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024

const NO_FAULTS = ['CRASHES=0', 'RESTARTS=0']
/** A ring of one that a second node joins. */
const ONE_AND_JOINER = ['N=2', 'INITIAL=1', 'ROUNDS=1', 'EPOCHS=4', 'SUSPICIONS=1', 'LIVENESS']
/** Where most mutations show: three members, one round, two view changes, no crash. */
const THREE = ['ROUNDS=1', ...NO_FAULTS]

/** Everything that is checked. */
export const CONFIGURATIONS: readonly Configuration[] = [
  holds('three members, one restart, one view change', ['ROUNDS=1', 'EPOCHS=2', 'SUSPICIONS=1'], true),
  holds('two members and a joiner', ['INITIAL=3', 'ROUNDS=1', ...NO_FAULTS], true),
  holds('goes on: three members, one crash', ['ROUNDS=1', 'SUSPICIONS=1', 'RESTARTS=0', 'LIVENESS'], true),
  holds('goes on: a ring of one, a joiner, one restart', ONE_AND_JOINER, true),
  breaks('quorum any', ['MUT_QUORUM_ANY', ...THREE]),
  breaks('one-phase commit', ['MUT_ONE_PHASE', ...THREE]),
  breaks('takes part after promising', ['MUT_NOT_FROZEN', ...THREE]),
  breaks('own ballot kept below a promise', ['MUT_OWN_BALLOT_KEPT', ...THREE]),
  breaks('start of the view not reported', ['MUT_REPORT_WITHOUT_START', ...THREE]),
  breaks('reached round not reported', ['MUT_START_FORGOTTEN', ...THREE]),
  breaks('promises not durable', ['MUT_PROMISES_FORGOTTEN', 'ROUNDS=1', 'EPOCHS=2']),
  breaks('lost start run again', [
    'MUT_LOST_START_RERUN',
    'MUT_RESULT_VOLATILE',
    'N=2',
    'INITIAL=3',
    'ROUNDS=1',
  ]),
  breaks('prepared result not durable', ['MUT_RESULT_VOLATILE', ...ONE_AND_JOINER]),
  holds('three members, two rounds, one view change', ['EPOCHS=2', ...NO_FAULTS]),
  holds('three members, two view changes', THREE),
  holds('three members, two view changes, a corrupt result', ['CORRUPTIONS=1', ...THREE]),
  holds('three members, rival ballots, one restart', ['ROUNDS=1', 'EPOCHS=2']),
  holds('goes on: three members, one restart', ['ROUNDS=1', 'EPOCHS=4', 'SUSPICIONS=1', 'LIVENESS']),
  holds('goes on: three members, two rounds, one restart', ['EPOCHS=4', 'SUSPICIONS=1', 'LIVENESS']),
  holds('three members, two view changes, one restart', ['ROUNDS=1']),
  {
    ...holds('three members and a joiner, in part', ['N=4', 'INITIAL=7', 'EPOCHS=4', 'SUSPICIONS=3']),
    search: 'bitstate',
  },
  votes('votes: four members, one lies, two ballots', ['BALLOTS=2'], 'holds', true),
  votes('votes: four members, one lies', [], 'holds'),
  votes('votes: a majority of four, one lies', ['MAJORITY'], 'holds'),
  votes('votes: a majority of three, one lies', ['MAJORITY', 'HONEST=2'], 'breaks', true),
  votes('votes: four members, two lie', ['HONEST=2', 'LIARS=2'], 'breaks'),
  votes('votes: no lock', ['MUT_NO_LOCK'], 'breaks'),
  votes('votes: signs for two values in a ballot', ['MUT_SIGNS_TWICE'], 'breaks'),
  votes('votes: no endorsement', ['MUT_ONE_PHASE'], 'breaks'),
  votes('votes: seven members, two lie, two ballots', ['HONEST=5', 'LIARS=2', 'BALLOTS=2'], 'holds'),
]

function holds(name: string, defines: readonly string[], quick = false): Configuration {
  return { name, model: 'ring.pml', defines, expect: 'holds', quick, search: 'exhaustive' }
}

function breaks(name: string, defines: readonly string[]): Configuration {
  return {
    name,
    model: 'ring.pml',
    defines,
    expect: 'breaks',
    quick: name === 'quorum any' || name === 'one-phase commit',
    search: 'exhaustive',
  }
}

function votes(
  name: string,
  defines: readonly string[],
  expect: Configuration['expect'],
  quick = false,
): Configuration {
  return { name, model: 'votes.pml', defines, expect, quick, search: 'exhaustive' }
}

/** Null when Spin and a C compiler are here, else what is missing and how to get it. */
export async function missingTools(): Promise<string | null> {
  for (const [tool, option] of [
    ['spin', '-V'],
    ['cc', '--version'],
  ] as const) {
    const { code } = await run(tool, [option], tmpdir(), 30)
    if (code !== 0) return `${tool} is not installed (Debian: apt-get install spin gcc libc6-dev)`
  }
  return null
}

/** Searches one configuration in a temporary folder. Throws when Spin, the compiler or the search itself fails. */
export async function check(configuration: Configuration): Promise<Finding> {
  const folder = await mkdtemp(join(tmpdir(), 'ring-spec-'))
  try {
    await copyFile(join(FOLDER, configuration.model), join(folder, 'ring.pml'))
    const defines = configuration.defines.map((define) => `-D${define}`)
    await must('spin', ['-a', ...defines, 'ring.pml'], folder)
    const store = configuration.search === 'bitstate' ? '-DBITSTATE' : '-DHC4'
    // A mutation breaks soon and a quick search is small: optimising would take longer than it saves.
    const optimise = configuration.quick || configuration.expect === 'breaks' ? '-O0' : '-O1'
    const limits = ['-DVECTORSZ=2048', `-DMEMLIM=${MEMORY_LIMIT_MB}`]
    await must('cc', ['-w', optimise, '-DSAFETY', store, ...limits, '-o', 'pan', 'pan.c'], folder)
    const size = configuration.search === 'bitstate' ? ['-w32'] : []
    const limit = SEARCH_LIMIT_MINUTES[configuration.quick ? 'quick' : configuration.search]
    const { output } = await run(
      './pan',
      [`-m${DEPTH_LIMIT}`, '-E', `-Q${limit}`, ...size],
      folder,
      limit * 60 + SEARCH_GRACE_S,
    )
    const found = readOutput(output, limit)
    const hasTrail = (await readdir(folder)).includes('ring.pml.trail')
    if (!hasTrail) return found
    const replay = await must('spin', ['-t', ...defines, 'ring.pml'], folder)
    return {
      ...found,
      story: replay
        .split('\n')
        .map((line) => line.trim())
        .filter(isStep),
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function readOutput(output: string, limitMinutes: number): Finding {
  const number = (pattern: RegExp): number => Number(pattern.exec(output)?.[1] ?? Number.NaN)
  const violation = /^pan:\d+: (.*?)(?: \(at depth \d+\))?$/m.exec(output)?.[1] ?? null
  const states = number(/^\s*([\d.e+]+) states, stored/m)
  if (Number.isNaN(states) && violation === null)
    throw new Error(
      `the search did not end within ${limitMinutes} minutes and ${MEMORY_LIMIT_MB} MB: ${output.slice(-500)}`,
    )
  return {
    violation,
    story: [],
    complete: !/Time limit|Search not completed|max search depth too small|reached -DMEMLIM/.test(output),
    states,
    depth: number(/depth reached (\d+)/),
    seconds: number(/elapsed time ([\d.e+]+)/),
    memoryMb: number(/([\d.]+)\s+total actual memory usage/),
  }
}

/** Lines that the model prints, and the one with which Spin reports the assertion. */
function isStep(line: string): boolean {
  return /^(node|view \d|timeout|faults|spin: ring)/.test(line)
}

async function must(command: string, args: readonly string[], folder: string): Promise<string> {
  const { code, output } = await run(command, args, folder, 300)
  if (code !== 0) throw new Error(`${command} failed with ${String(code)}: ${output.slice(-2000)}`)
  return output
}

function run(
  command: string,
  args: readonly string[],
  cwd: string,
  limitS: number,
): Promise<{ code: number | string; output: string }> {
  const options = { cwd, timeout: limitS * 1000, maxBuffer: OUTPUT_LIMIT_BYTES }
  return new Promise((resolve) => {
    execFile(command, args, options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : (error.code ?? 'killed'), output: stdout + stderr })
    })
  })
}

/** Whether a finding is what the configuration expects. A partial search holds when it found nothing. */
export function isExpected(configuration: Configuration, finding: Finding): boolean {
  if (configuration.expect === 'breaks') return finding.violation !== null
  return finding.violation === null && (finding.complete || configuration.search === 'bitstate')
}

async function main(args: readonly string[]): Promise<number> {
  const missing = await missingTools()
  if (missing !== null) {
    process.stderr.write(`${missing}\n`)
    return 2
  }
  const only = args.includes('--only') ? args[args.indexOf('--only') + 1] : undefined
  const chosen = CONFIGURATIONS.filter((c) =>
    only === undefined ? c.quick || !args.includes('--quick') : c.name === only,
  )
  process.stdout.write(
    '| configuration | result | states | depth | s | MB |\n| --- | --- | --- | --- | --- | --- |\n',
  )
  let failures = chosen.length === 0 ? 1 : 0
  for (const configuration of chosen) {
    const found = await check(configuration)
    const result = found.violation === null ? (found.complete ? 'holds' : 'holds so far') : 'breaks'
    const cells = [
      configuration.name,
      result,
      found.states,
      found.depth,
      found.seconds,
      Math.round(found.memoryMb),
    ]
    process.stdout.write(`| ${cells.join(' | ')} |\n`)
    if (!isExpected(configuration, found)) failures++
    const tell = only !== undefined || !isExpected(configuration, found)
    if (tell && found.violation !== null)
      process.stdout.write(`${found.violation.slice(0, 200)}\n${found.story.join('\n')}\n`)
  }
  return failures === 0 ? 0 : 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main(process.argv.slice(2))
