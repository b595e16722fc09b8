/**
 * npm run test:docs: runs every command line of README.md, docs/ and deploy/README.md as its reader would, on the demo
 * model and with the paths of a temporary folder, or says why not. Exits 1 when one fails or nobody knows how to run it.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DEMO, GYM_NODE, runCommand, TestDaemon } from '../e2e/daemon-harness.ts'
import { commandsOf, reasonNotToRun } from './commands.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** What the reader has set up when a page begins: small rounds, a free port, nobody else's network. */
const READER = {
  GYM_TRAIN_MODEL: DEMO,
  GYM_TRAIN_DATASET: join(DEMO, 'train.jsonl'),
  GYM_TRAIN_MAX_COMPLETION_LENGTH: '6',
  GYM_TRAIN_THREADS: '1',
  GYM_RING_LISTEN: '/ip4/127.0.0.1/tcp/0',
  GYM_RING_MDNS: 'false',
  GYM_RING_MIN_MEMBERS: '1',
  GYM_HTTP_PORT: '0',
  GYM_LOG_FORMAT: 'json',
}

/** A line that runs until it is stopped, and the output that shows that it works. */
const ENDLESS: readonly { readonly matches: RegExp; readonly shows: RegExp }[] = [
  { matches: /^gym-node top /, shows: /worker of job/ },
  { matches: /^gym-node logs --follow /, shows: /\d{2}:\d{2}:\d{2}/ },
  { matches: /^gym-node relay /, shows: /^relay \/ip4\//m },
]

/** A line that shows nothing for so long (ms) has failed. */
const LONGEST_COMMAND_MS = 30_000

const folder = await mkdtemp(join(tmpdir(), 'gym-docs-'))
const closers: (() => Promise<void>)[] = []
let failures = 0
try {
  const ring = await makeRing()
  for (const page of await pages()) failures += await runPage(page, ring)
} finally {
  for (const close of closers.reverse()) await close()
  await rm(folder, { recursive: true, force: true })
}
process.exitCode = failures === 0 ? 0 : 1

/** Runs the commands of one page in a folder of its own, beside a daemon; answers how many failed. */
async function runPage(page: string, ring: string): Promise<number> {
  const commands = commandsOf(page, await readFile(join(ROOT, page), 'utf8'))
  if (!commands.some(({ line }) => reasonNotToRun(line) === null)) {
    for (const { line } of commands) say(page, line, `not run: ${reasonNotToRun(line) ?? ''}`)
    return 0
  }
  const cwd = join(folder, page.replaceAll('/', '-'))
  await furnish(cwd, ring)
  let daemon: TestDaemon | null = null
  let failed = 0
  const ensureDaemon = async (config: string): Promise<void> => {
    if (daemon !== null) return
    daemon = TestDaemon.start(
      { after: (close) => void closers.push(close) },
      join(cwd, 'live'),
      ['--config', join(cwd, config)],
      READER,
    )
    await daemon.waitForRound(1)
  }
  for (const { line } of commands) {
    const reason = reasonNotToRun(line)
    if (reason !== null) {
      say(page, line, `not run: ${reason}`)
      continue
    }
    try {
      const config = /--config (\S+)/.exec(line)?.[1] ?? 'gym.yaml'
      if (/^gym-node (start|status|top|logs|peers)\b/.test(line)) await ensureDaemon(config)
      if (!line.startsWith('gym-node start ')) await runLine(line, cwd)
      say(page, line, 'ok')
    } catch (error) {
      failed++
      say(page, line, `FAILED: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  if (daemon !== null) assert.equal((await (daemon as TestDaemon).stop()).code, 0)
  return failed
}

async function runLine(line: string, cwd: string): Promise<void> {
  assert.ok(line.startsWith('gym-node '), 'nobody knows how to run this: add it to commands.ts')
  const args = line
    .split(/\s+/)
    .slice(1)
    .map((word) => placed(word, cwd))
  // Commands that look at the daemon find it by the folder that it was started on.
  if (/^gym-node (status|top|logs|peers|rounds)\b/.test(line) && !args.includes('--state-dir'))
    args.push('--state-dir', join(cwd, 'live'))
  const endless = ENDLESS.find(({ matches }) => matches.test(line))
  if (endless !== undefined) return runUntil(args, cwd, endless.shows)
  const env = /^gym-node doctor /.test(line) ? READER : {}
  const { code, stdout, stderr } = await runCommand(args, { cwd, env })
  assert.equal(code, 0, `code ${code}: ${stderr || stdout.slice(-400)}`)
}

/** Paths of the documentation as paths of the test. */
function placed(word: string, cwd: string): string {
  if (word === 'FILE') return 'round-7.delta'
  return word
    .replace(/^\/models\/qwen3$/, DEMO)
    .replace(/^\/models\//, `${cwd}/`)
    .replace(/^\/data\//, DEMO)
    .replace(/^\/etc\/gym-node(?=\/|$)/, join(cwd, 'etc'))
    .replace(/^\/var\/lib\/gym-node$/, join(cwd, 'live'))
}

/** What the pages take for granted: a configuration, and the files of a round of a ring of three under their names. */
async function furnish(cwd: string, ring: string): Promise<void> {
  await mkdir(cwd)
  const state = (index: number, name: string): string => join(ring, `node-${index}`, name)
  for (const [index, name] of ['node-a', 'node-b', 'node-c'].entries())
    await cp(state(index, 'deltas/round-2.delta'), join(cwd, name, 'round-7.delta'), { recursive: true })
  for (const round of [7, 40]) {
    await cp(state(0, 'deltas/round-2.delta'), join(cwd, `gym-state/deltas/round-${round}.delta`))
    await cp(state(0, 'traces/round-2.state'), join(cwd, `gym-state/traces/round-${round}.state`))
  }
  await cp(state(0, 'deltas/round-2.delta'), join(cwd, 'round-7.delta'))
  await cp(state(0, 'traces/round-2.trace'), join(cwd, 'round-7.trace'))
  await cp(state(0, 'traces/round-2.state'), join(cwd, 'round-7.state'))
  // Pages that make their own configuration with `init` do so in a folder without one.
  if (cwd.endsWith('README.md')) return
  // A reader's daemon has no last round.
  const settings = await readFile(`${join(ring, 'node-0')}.yaml`, 'utf8')
  await writeFile(join(cwd, 'gym.yaml'), settings.replace(/^ *rounds: .*\n/m, ''))
}

async function makeRing(): Promise<string> {
  const out = join(folder, 'ring')
  const small = ['--steps', '1', '--set', 'train.prompts_per_step=2']
  const { code, stderr } = await runCommand(['ring', '--rounds', '2', '--out', out, ...small])
  assert.equal(code, 0, stderr)
  return out
}

/** Runs a command until its output shows what is awaited, then stops it as a person would. */
async function runUntil(args: readonly string[], cwd: string, shows: RegExp): Promise<void> {
  const child = spawn(process.execPath, [GYM_NODE, ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const deadline = setTimeout(() => child.kill('SIGKILL'), LONGEST_COMMAND_MS)
  let text = ''
  let isStopping = false
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (part: string) => {
      text += part
      // Once: a second signal would end it at once, without the exit code of an orderly end.
      if (isStopping || !shows.test(text)) return
      isStopping = child.kill('SIGINT')
    })
  const code = await ended
  clearTimeout(deadline)
  assert.match(text, shows)
  assert.equal(code, 0, text.slice(-400))
}

async function pages(): Promise<string[]> {
  const docs = (await readdir(join(ROOT, 'docs'))).filter((name) => name.endsWith('.md')).sort()
  return ['README.md', ...docs.map((name) => `docs/${name}`), 'deploy/README.md']
}

function say(page: string, line: string, result: string): void {
  process.stdout.write(`${page.padEnd(24)} ${line}\n${' '.repeat(27)}${result}\n`)
}
