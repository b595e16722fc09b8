/**
 * How long a user waits from `npm i -g` of the packed tarballs to the first training step on the demo model. Packing is
 * not counted; installing (with the scripts that npm runs), starting and loading are.
 *   node --conditions=gym-source bench/first-step.ts [--cold]     --cold: with an empty npm cache, all is downloaded
 */
import { execFileSync, spawn } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const { values } = parseArgs({ options: { cold: { type: 'boolean', default: false } } })
const folder = await mkdtemp(join(tmpdir(), 'gym-first-step-'))
try {
  execFileSync('npm', ['pack', '--silent', '--workspaces', '--pack-destination', folder], {
    cwd: ROOT,
    stdio: 'ignore',
  })
  const tarballs = (await readdir(folder))
    .filter((name) => name.endsWith('.tgz'))
    .map((name) => join(folder, name))
  const prefix = join(folder, 'prefix')
  const startedAt = performance.now()
  const since = (): number => Number(((performance.now() - startedAt) / 1_000).toFixed(1))
  execFileSync(
    'npm',
    [
      'install',
      '--global',
      '--prefix',
      prefix,
      '--no-audit',
      '--no-fund',
      ...(values.cold ? ['--cache', join(folder, 'cache')] : []),
      ...tarballs,
    ],
    {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' }, // as docs/QUICK-START.md says
    },
  )
  const installed = since()
  const demo = join(prefix, 'lib/node_modules/gym-node/demo/arith-model')
  const daemon = spawn(
    join(prefix, 'bin/gym-node'),
    [
      'start',
      ...['--model', demo, '--dataset', join(demo, 'train.jsonl'), '--min-members', '1', '--http-port', '0'],
      ...['--log-level', 'debug', '--set', 'log.format=json', '--listen', '/ip4/127.0.0.1/tcp/0'],
      ...['--state-dir', join(folder, 'state'), '--set', 'train.max_completion_length=6'],
    ],
    { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] },
  )
  let firstStep: number | null = null
  for await (const line of createInterface({ input: daemon.stdout }))
    if (line.includes('"msg":"step"')) {
      firstStep = since()
      break
    }
  const ended = new Promise((resolve) => daemon.once('close', resolve))
  daemon.kill('SIGTERM')
  daemon.stdout.resume()
  await ended
  if (firstStep === null) throw new Error('the daemon ended before its first step')
  process.stdout.write(
    `${JSON.stringify({
      npm_cache: values.cold ? 'empty' : 'as it is',
      install_seconds: installed,
      start_to_first_step_seconds: Number((firstStep - installed).toFixed(1)),
      total_seconds: firstStep,
    })}\n`,
  )
} finally {
  await rm(folder, { recursive: true, force: true })
}
