/** What an operator does with a daemon: watches it, runs it under systemd, reloads it, and runs out of things. */
import assert from 'node:assert/strict'
import { execFile, execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { Command } from 'commander'
import {
  DEMO,
  demoFlags,
  GYM_NODE,
  isCommit,
  runCommand,
  settings,
  temporaryFolder,
  TestDaemon,
} from '../../../test/e2e/daemon-harness.ts'
import { completionScript } from '../src/cli/completion.ts'
import { errnoOf } from '../src/errors.ts'
import { serviceUnit, USUAL_PATHS } from '../src/service-unit.ts'

const run = promisify(execFile)
const ALONE = settings({ 'ring.min_members': 1 })

it('is watched with peers, rounds, logs and top, and reads its configuration again on SIGHUP', async (t) => {
  const folder = await temporaryFolder(t)
  const stateDir = join(folder, 'state')
  const config = join(folder, 'gym.yaml')
  const file = (level: string): string =>
    `log: { level: ${level}, format: json }\ntrain: { model: ${DEMO}, dataset: ${DEMO}train.jsonl }\n`
  await writeFile(config, file('debug'))
  const flags = demoFlags(11).filter(
    (_, i, all) => !/^log\./.test(all[i] ?? '') && !/^log\./.test(all[i + 1] ?? ''),
  )
  const daemon = TestDaemon.start(t, stateDir, ['--config', config, ...flags, ...ALONE])
  await daemon.waitForRound(1)
  const at = ['--state-dir', stateDir]
  const [peers, rounds, logs] = await Promise.all([
    runCommand(['peers', ...at]),
    runCommand(['rounds', '--json', ...at]),
    runCommand(['logs', ...at]),
  ])
  assert.match(peers.stdout, /^12D3KooW\w+ {2}self/)
  const [first] = JSON.parse(rounds.stdout) as {
    round: number
    contributions: { weight: number; commitment: string }[]
  }[]
  assert.equal(first?.round, 1)
  assert.equal(first.contributions[0]?.weight, 64, '2 steps x 4 prompts x 8 completions')
  assert.match(first.contributions[0]?.commitment ?? '', /^[0-9a-f]{64}$/)
  // The phases of later rounds are one entry, which reads as the latest of them.
  assert.match(logs.stdout, /view 1 with 1 members\n.* (waiting_for_peers|training|reducing): /)
  const top = spawn(process.execPath, [GYM_NODE, 'top', ...at], { stdio: ['ignore', 'pipe', 'inherit'] })
  for await (const line of createInterface({ input: top.stdout })) if (line.startsWith('reward')) break
  const ended = new Promise((resolve) => top.once('close', resolve))
  top.kill('SIGINT')
  assert.equal(await ended, 0)

  await writeFile(config, file('warn').replace('train: {', 'train: { delta_keep_rounds: 7, beta: 0.5,'))
  daemon.kill('SIGHUP')
  const reload = await daemon.waitFor('the reload', ({ msg }) => msg.startsWith('configuration read again'))
  assert.deepEqual(reload.applied, ['log.level', 'train.delta_keep_rounds'])
  assert.deepEqual(reload.need_restart, ['train.beta'])
  await writeFile(config, 'lgo: {}\n')
  daemon.kill('SIGHUP')
  const refused = await daemon.waitFor('the refusal', ({ msg }) =>
    msg.startsWith('configuration not read again'),
  )
  assert.equal(refused.code, 'CONFIG_UNKNOWN_KEY')
  assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.stderr)
})

describe('under systemd', () => {
  const hasSystemd = existsSync('/usr/bin/systemd-notify') && existsSync('/usr/bin/python3')

  it(
    'says ready, what it does, that it lives and that it stops, to a real notify socket',
    { skip: hasSystemd ? false : 'systemd-notify or python3 is not installed' },
    async (t) => {
      const folder = await temporaryFolder(t)
      const socket = join(folder, 'notify')
      const receiver =
        "import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM);s.bind(sys.argv[1]);print('bound',flush=True)\nwhile True:\n    print(s.recv(65536).decode().replace(chr(10),'|'),flush=True)"
      const listener = spawn('python3', ['-c', receiver, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
      t.after(() => void listener.kill())
      const messages: string[] = []
      const bound = Promise.withResolvers<void>()
      createInterface({ input: listener.stdout }).on('line', (line) => {
        messages.push(line)
        bound.resolve()
      })
      await bound.promise
      const daemon = TestDaemon.start(
        t,
        join(folder, 'state'),
        [...demoFlags(12), ...ALONE, '--rounds', '2'],
        { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '1000000' },
      )
      assert.deepEqual(await daemon.ended, { code: 0, signal: null }, daemon.stderr)
      for (const part of ['READY=1', 'STATUS=training', 'WATCHDOG=1', 'STOPPING=1']) {
        assert.ok(
          messages.some((message) => message.includes(part)),
          `no ${part} in ${JSON.stringify(messages)}`,
        )
      }
    },
  )

  it('has a unit that systemd accepts, equal to the one in the repository, and does not overwrite another', async (t) => {
    const folder = await temporaryFolder(t)
    assert.equal(
      await readFile(new URL('../../../systemd/gym-node.service', import.meta.url), 'utf8'),
      serviceUnit(USUAL_PATHS),
    )
    const installed = await runCommand(['service', 'install', '--dir', folder])
    assert.equal(installed.code, 0, installed.stderr)
    const unit = join(folder, 'gym-node.service')
    if (existsSync('/usr/bin/systemd-analyze')) {
      const { stdout, stderr } = await run('systemd-analyze', ['verify', unit])
      assert.equal(stdout + stderr, '')
    }
    await writeFile(unit, '[Unit]\n')
    const refused = await runCommand(['service', 'install', '--dir', folder])
    assert.equal(refused.code, 2)
    assert.match(refused.stderr, /^error OUTPUT_EXISTS: .*--force/)
  })
})

describe('completion', () => {
  it('is valid bash, and knows commands, subcommands and options', async () => {
    const { stdout } = await runCommand(['completion', 'bash'])
    const script = `${stdout}\nCOMP_WORDS=(gym-node delta ver); COMP_CWORD=2; _gym_node; echo "\${COMPREPLY[@]}"\nCOMP_WORDS=(gym-node st); COMP_CWORD=1; _gym_node; echo "\${COMPREPLY[@]}"`
    assert.equal(execFileSync('bash', ['-c', script], { encoding: 'utf8' }), 'verify\nstart status\n')
  })

  it('names every command for fish and zsh', () => {
    const program = new Command('x')
    const words = [
      { path: '', words: ['start', '--help'] },
      { path: 'start', words: ['--config'] },
    ]
    assert.equal(program.name(), 'x')
    assert.match(
      completionScript('fish', words),
      /complete -c gym-node -n '__fish_use_subcommand' -a start\n.*-l help/,
    )
    assert.match(completionScript('zsh', words), /^autoload -U \+X bashcompinit/)
  })
})

describe('when the state folder fails', () => {
  it(
    'says that it is read-only, and changes nothing',
    { skip: mayMount() ? false : 'needs a user namespace that may mount tmpfs' },
    async (t) => {
      const disk = join(await temporaryFolder(t), 'disk')
      await mkdir(disk)
      const flags = [...demoFlags(0), ...settings({ 'log.level': 'silent' })]
        .map((part) => `'${part}'`)
        .join(' ')
      const script = `mount -t tmpfs none '${disk}' && mkdir '${disk}/state' && mount -o remount,ro '${disk}'
        '${process.execPath}' '${GYM_NODE}' start --state-dir '${disk}/state' ${flags} 2>&1; echo "exit $?"; ls -A '${disk}/state'`
      const { stdout } = await run('unshare', ['-Urm', 'bash', '-c', script])
      assert.match(stdout, /^error STATE_UNWRITABLE: .*\/state.*\nexit 5\n$/)
    },
  )

  it('says that the disk is full also where the promises of the ring are kept', async (t) => {
    const folder = await temporaryFolder(t)
    const daemon = TestDaemon.start(t, folder, [...demoFlags(14), ...ALONE])
    await daemon.waitForRound(1)
    // Linux's device that answers every write with ENOSPC, where the next vote is written first; just now one may be.
    const next = join(folder, 'view.unfinished')
    const take = (): Promise<boolean> =>
      symlink('/dev/full', next).then(
        () => true,
        (error: unknown) => {
          if (errnoOf(error) !== 'EEXIST') throw error
          return false
        },
      )
    while (!(await take()));
    assert.equal((await daemon.ended).code, 5)
    assert.match(daemon.stderr, /^error STATE_FULL: no space left to write .*\/view \(free disk space/m)
  })

  it(
    'says that the disk is full, keeps the last committed round, and goes on from it when there is room',
    { skip: mayMount() ? false : 'needs a user namespace that may mount tmpfs' },
    async (t) => {
      const folder = await temporaryFolder(t)
      const stateDir = join(folder, 'disk', 'state')
      await mkdir(join(folder, 'disk'))
      // A tmpfs of 12 MB holds a few rounds; the shell inside the namespace then adds room and starts the daemon again.
      const start = [process.execPath, GYM_NODE, 'start', '--state-dir', stateDir, ...demoFlags(13), ...ALONE]
        .map((part) => `'${part}'`)
        .join(' ')
      const script = `mount -t tmpfs -o size=12m none '${join(folder, 'disk')}'
      ${start} >'${folder}/first.log' 2>'${folder}/first.err'; echo "first $?"
      mount -o remount,size=200m '${join(folder, 'disk')}'
      ${start} >'${folder}/second.log' 2>&1 & pid=$!
      until grep -q 'adapter_sha3_256' '${folder}/second.log'; do kill -0 $pid || break; sleep 0.2; done
      kill -TERM $pid; wait $pid; echo "second $?"`
      const { stdout } = await run('unshare', ['-Urm', 'bash', '-c', script], { timeout: 250_000 })
      assert.match(stdout, /^first 5$/m)
      assert.match(stdout, /^second 0$/m)
      assert.match(
        await readFile(join(folder, 'first.err'), 'utf8'),
        /^error STATE_FULL: no space left to write .* \(free disk space/,
      )
      const commits = async (name: string): Promise<number[]> =>
        (await readFile(join(folder, name), 'utf8'))
          .split('\n')
          .filter((line) => line.startsWith('{'))
          .map((line) => JSON.parse(line) as Parameters<typeof isCommit>[0])
          .filter(isCommit)
          .map(({ round }) => round ?? 0)
      const last = Math.max(...(await commits('first.log')))
      assert.equal((await commits('second.log'))[0], last + 1)
    },
  )
})

function mayMount(): boolean {
  try {
    execFileSync('unshare', ['-Urm', 'true'], { stdio: 'ignore' })
    return true
  } catch {
    return false // no user namespaces in this environment
  }
}
