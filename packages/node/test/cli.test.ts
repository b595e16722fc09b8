/** The command line as its user runs it: help, version, and for each bad input the message, the next step and the code. */
import assert from 'node:assert/strict'
import { copyFile, mkdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { DEMO, demoFlags, runCommand, settings, temporaryFolder } from '../../../test/e2e/daemon-harness.ts'

/** The one error line of a command that must fail, after its exit code has been checked. */
async function failure(
  args: readonly string[],
  code: number,
  options: Parameters<typeof runCommand>[1] = {},
): Promise<string> {
  const result = await runCommand(args, options)
  assert.equal(result.code, code, result.stdout + result.stderr)
  const lines = result.stderr.trimEnd().split('\n')
  assert.equal(lines.length, 1, `one line was expected:\n${result.stderr}`)
  assert.match(lines[0] ?? '', /^error [A-Z_]+: .+\)$/)
  return lines[0] ?? ''
}

async function modelCopy(folder: string, files: readonly string[]): Promise<string> {
  const model = join(folder, 'model')
  await mkdir(model)
  for (const name of files) await copyFile(join(DEMO, name), join(model, name))
  return model
}

describe('gym-node', { concurrency: 2 }, () => {
  it('explains itself, with examples and exit codes', async () => {
    const { code, stdout } = await runCommand(['--help'])
    assert.equal(code, 0)
    for (const part of ['Examples:', 'gym-node ring --nodes 3', 'Exit codes:', '5  the state folder'])
      assert.ok(stdout.includes(part), part)
  })

  it('prints version, build, Node and platform', async () => {
    const { stdout } = await runCommand(['--version'])
    assert.match(stdout, /^gym-node \d+\.\d+\.\d+ \((source|build \w+), Node 24\.\d+\.\d+, \w+-\w+\)\n$/)
  })

  it('suggests the command that was meant', async () => {
    assert.match(
      await failure(['strat'], 2),
      /^error USAGE: unknown command 'strat' \(Did you mean start\?\)/,
    )
    assert.match(
      await failure(['ring', '--nodes', 'three'], 2),
      /--nodes is "three", expected a whole number from 1 to 64/,
    )
  })

  it('shows the stack only with --debug', async () => {
    const { stderr } = await runCommand(['--debug', 'start', '--config', '/nowhere/gym.yaml'])
    assert.match(stderr, /^error CONFIG_NOT_FOUND: no configuration at \/nowhere\/gym.yaml .*\n\s*NodeError/)
  })
})

describe('gym-node init', () => {
  it('writes a configuration and an identity, and overwrites neither', async (t) => {
    const folder = await temporaryFolder(t)
    const made = await runCommand(['init', folder, '--model', 'm', '--dataset', 'd.jsonl'])
    assert.equal(made.code, 0, made.stderr)
    assert.match(made.stdout, /peer id {2}12D3KooW\w+/)
    assert.match(made.stdout, /next {5}gym-node doctor --config .*\n {9}gym-node start --config /)
    const text = await readFile(join(folder, 'gym.yaml'), 'utf8')
    assert.match(text, /^ {2}model: \/.*\/m$/m)
    assert.ok(!text.includes(join(folder, 'm\n')), 'a path of the command line is relative to its caller')
    const before = await readFile(join(folder, 'gym-state/identity/ed25519.seed'))
    assert.match(await failure(['init', folder], 2), /CONFIG_EXISTS: .*gym\.yaml is there already/)
    assert.deepEqual(await readFile(join(folder, 'gym-state/identity/ed25519.seed')), before)
  })
})

describe('bad input of start is named, with what to do', { concurrency: 2 }, () => {
  it('an unknown key: file, line and the nearest key', async (t) => {
    const file = join(await temporaryFolder(t), 'gym.yaml')
    await writeFile(file, 'train:\n  model: m\n  dataset: d\n  goup_size: 4\n')
    assert.match(
      await failure(['start', '--config', file], 2),
      /CONFIG_UNKNOWN_KEY: .*gym\.yaml:4: unknown key "train\.goup_size"; did you mean "group_size"\?/,
    )
  })

  it('a missing model file: its path', async (t) => {
    const folder = await temporaryFolder(t)
    const model = await modelCopy(folder, ['config.json', 'tokenizer.json', 'tokenizer_config.json'])
    const line = await failure(
      [
        'start',
        '--state-dir',
        join(folder, 's'),
        ...demoFlags(0),
        ...settings({ 'train.model': model, 'log.level': 'silent' }),
      ],
      6,
    )
    assert.match(line, /^error FILE_MISSING: .*model\.safetensors/)
  })

  it('a missing model folder: its path', async (t) => {
    const folder = await temporaryFolder(t)
    const line = await failure(
      [
        'start',
        '--state-dir',
        join(folder, 's'),
        ...demoFlags(0),
        ...settings({ 'train.model': join(folder, 'none'), 'log.level': 'silent' }),
      ],
      6,
    )
    assert.match(line, /^error FILE_MISSING: .*none/)
  })

  it('a truncated safetensors file: its path and both lengths', async (t) => {
    const folder = await temporaryFolder(t)
    const model = await modelCopy(folder, [
      'config.json',
      'generation_config.json',
      'tokenizer.json',
      'tokenizer_config.json',
      'model.safetensors',
    ])
    await truncate(join(model, 'model.safetensors'), 1_000_000)
    const line = await failure(
      [
        'start',
        '--state-dir',
        join(folder, 's'),
        ...demoFlags(0),
        ...settings({ 'train.model': model, 'log.level': 'silent' }),
      ],
      6,
    )
    assert.match(line, /^error BAD_SAFETENSORS: .*model\.safetensors.*\d{6}/)
  })

  it('a data set line without a prompt: file and line', async (t) => {
    const folder = await temporaryFolder(t)
    const dataset = join(folder, 'bad.jsonl')
    await writeFile(dataset, '{"prompt":"1+1=","answer":"2"}\n{"answer":"3"}\n')
    const line = await failure(
      [
        'start',
        '--state-dir',
        join(folder, 's'),
        ...demoFlags(0),
        ...settings({ 'train.dataset': dataset, 'log.level': 'silent' }),
      ],
      6,
    )
    assert.match(line, /^error BAD_DATASET: .*bad\.jsonl.*2.*prompt/)
  })

  it('a port in use, of the ring and of the status server: the address', async (t) => {
    const folder = await temporaryFolder(t)
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    t.after(() => server.close())
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const start = (key: string, value: string | number): Promise<string> =>
      failure(
        [
          'start',
          '--state-dir',
          join(folder, key),
          ...demoFlags(0),
          ...settings({ [key]: value, 'log.level': 'silent' }),
        ],
        4,
      )
    assert.match(
      await start('ring.listen', `/ip4/127.0.0.1/tcp/${port}`),
      new RegExp(`^error PORT_IN_USE: .*${port}`),
    )
    assert.match(await start('http.port', port), new RegExp(`^error PORT_IN_USE: .*${port}`))
  })
})

describe('commands that talk to a daemon or read a file', { concurrency: 2 }, () => {
  it('say that no daemon runs', async (t) => {
    assert.match(
      await failure(['status', '--state-dir', await temporaryFolder(t)], 4),
      /^error NOT_RUNNING: .*gym-node start/,
    )
  })

  it('say that a delta file is missing, or is none', async (t) => {
    const folder = await temporaryFolder(t)
    assert.match(
      await failure(['delta', 'verify', join(folder, 'none.delta')], 6),
      /^error FILE_NOT_FOUND: .*none\.delta/,
    )
    assert.match(await failure(['delta', 'inspect', folder], 6), /^error FILE_UNREADABLE: .*not a file/)
    const file = join(folder, 'text')
    await writeFile(file, 'this is a text and no delta file at all')
    const { code, stdout } = await runCommand(['delta', 'verify', file])
    assert.equal(code, 3)
    assert.match(stdout, /NOT verified/)
  })
})

describe('bad input of ring', { concurrency: 2 }, () => {
  it('a model folder that is not there', async () => {
    assert.match(
      await failure(['ring', '--model', '/nowhere', '--dataset', '/nowhere.jsonl'], 6),
      /^error FILE_NOT_FOUND: there is no \/nowhere/,
    )
  })

  it('an output folder that holds another run', async (t) => {
    const folder = await temporaryFolder(t)
    await mkdir(join(folder, 'node-0'))
    assert.match(await failure(['ring', '--out', folder], 2), /^error OUTPUT_EXISTS: /)
  })
})
