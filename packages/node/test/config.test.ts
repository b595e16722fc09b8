/** The configuration: precedence, unknown keys with suggestion and line, paths, and the file that `init` writes. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { parse } from 'yaml'
import { CONFIG_KEYS, environmentName, flatKeys, suggest } from '../src/config/keys.ts'
import { loadConfig, loadStateDir, type ConfigSources } from '../src/config/load.ts'
import { nodeConfigSchema } from '../src/config/schema.ts'
import { configTemplate } from '../src/config/template.ts'
import { NodeError, type NodeErrorCode } from '../src/errors.ts'

let folder = ''
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gym-config-'))
})
after(() => rm(folder, { recursive: true, force: true }))

const MINIMAL = 'train:\n  model: m\n  dataset: d.jsonl\n'

async function load(
  text: string,
  more: Partial<ConfigSources> = {},
): Promise<Awaited<ReturnType<typeof loadConfig>>> {
  const file = join(folder, 'gym.yaml')
  await writeFile(file, text)
  return loadConfig({ file, env: {}, flags: new Map(), cwd: '/somewhere', ...more })
}

function fails(code: NodeErrorCode, ...parts: string[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof NodeError, String(error))
    assert.equal(error.code, code)
    for (const part of parts)
      assert.ok(error.message.includes(part), `"${error.message}" does not say "${part}"`)
    return true
  }
}

describe('precedence', () => {
  it('takes defaults, then the file, then the environment, then flags', async () => {
    const text = `${MINIMAL}ring: { min_members: 3, peer_timeout_ms: 7000 }\n`
    const { config } = await load(text, {
      env: { GYM_RING_PEER_TIMEOUT_MS: '8000', GYM_RING_QUORUM: 'any', OTHER: 'x' },
      flags: new Map([['ring.quorum', 'majority']]),
    })
    assert.equal(config.ring.mdns, true)
    assert.equal(config.ring.min_members, 3)
    assert.equal(config.ring.peer_timeout_ms, 8000)
    assert.equal(config.ring.quorum, 'majority')
  })

  it('takes num_generations for train.group_size', async () => {
    assert.equal((await load(`${MINIMAL}  num_generations: 4\n`)).config.train.group_size, 4)
  })
  it('reads lists from the environment as YAML or with commas', async () => {
    const list = ['/ip4/127.0.0.1/tcp/1', '/ip4/127.0.0.1/tcp/2']
    for (const text of [list.join(', '), JSON.stringify(list)]) {
      assert.deepEqual((await load(MINIMAL, { env: { GYM_RING_LISTEN: text } })).config.ring.listen, list)
    }
  })

  it('resolves paths of the file against its folder and paths of flags against the working directory', async () => {
    const { config } = await load(`state_dir: s\n${MINIMAL}  rewards: [{ module: r.ts }]\n`, {
      flags: new Map([['train.model', 'flagged']]),
    })
    assert.equal(config.state_dir, join(folder, 's'))
    assert.equal(config.train.dataset, join(folder, 'd.jsonl'))
    assert.equal(config.train.model, '/somewhere/flagged')
    assert.deepEqual(
      config.train.rewards.map((reward) => ('module' in reward ? reward.module : '')),
      [join(folder, 'r.ts')],
    )
  })

  it('keeps the default of a section whose keys are all commented out', async () => {
    assert.equal((await load(`${MINIMAL}log:\n  # level: debug\n`)).config.log.level, 'info')
  })
})

describe('what is wrong is said with its place', () => {
  it('names line and nearest key of an unknown key, at any depth', async () => {
    await assert.rejects(
      load(`${MINIMAL}ring:\n  quorm: any\n`),
      fails('CONFIG_UNKNOWN_KEY', 'gym.yaml:5', '"ring.quorm"', 'did you mean "quorum"?'),
    )
    await assert.rejects(
      load(`${MINIMAL}trian: {}\n`),
      fails('CONFIG_UNKNOWN_KEY', 'gym.yaml:4', 'did you mean "train"?'),
    )
    await assert.rejects(
      load(`${MINIMAL}  rewards:\n    - name: exact_match\n      wieght: 2\n`),
      fails('CONFIG_UNKNOWN_KEY', 'gym.yaml:6', '"train.rewards.0.wieght"', '"weight"'),
    )
    await assert.rejects(
      load(`${MINIMAL}  outer: { kin: average }\n`),
      fails('CONFIG_UNKNOWN_KEY', 'gym.yaml:4', '"kind"'),
    )
  })

  it('names an unknown variable and an unknown flag', async () => {
    await assert.rejects(
      load(MINIMAL, { env: { GYM_RING_QUORM: 'any' } }),
      fails('CONFIG_UNKNOWN_KEY', 'environment', '"GYM_RING_QUORUM"'),
    )
    await assert.rejects(
      load(MINIMAL, { flags: new Map([['ring.quorm', 'any']]) }),
      fails('CONFIG_UNKNOWN_KEY', '"ring.quorum"'),
    )
  })

  it('says which required keys are missing', async () => {
    await assert.rejects(
      load('job: x\n'),
      fails('CONFIG_INVALID', 'gym.yaml:1', 'train.model is not set', 'train.dataset is not set'),
    )
    await assert.rejects(
      loadConfig({ file: null, env: {}, flags: new Map(), cwd: join(folder, 'empty') }),
      fails('CONFIG_NOT_FOUND', 'no gym.yaml in', 'empty'),
    )
    await assert.rejects(load('train: { model: m }\n'), fails('CONFIG_INVALID', 'train.dataset is not set'))
    await assert.rejects(
      load(`${MINIMAL.replace(': m', ": ''")}`),
      fails('CONFIG_INVALID', 'gym.yaml:2', 'train.model is not set'),
    )
  })

  it('names line, key and bound of a wrong value, or the variable that it came from', async () => {
    await assert.rejects(
      load(`${MINIMAL}http:\n  port: 70000\n`),
      fails('CONFIG_INVALID', 'gym.yaml:5', 'http.port', '65535'),
    )
    await assert.rejects(
      load(MINIMAL, { env: { GYM_HTTP_PORT: 'x' } }),
      fails('CONFIG_INVALID', 'GYM_HTTP_PORT'),
    )
    await assert.rejects(
      load(`${MINIMAL}ring: { bootstrap: [1.2.3.4:5] }
`),
      fails('CONFIG_INVALID', 'gym.yaml:4', 'not a multiaddr'),
    )
  })

  it('says what stands there, what the key takes in which unit, and what was most likely meant', async () => {
    const train = (line: string): Promise<unknown> => load(`${MINIMAL}  ${line}\n`)
    await assert.rejects(
      train('memory_limit_mb: 8GB'),
      fails('CONFIG_INVALID', 'train.memory_limit_mb is "8GB", it takes integer > 0', 'MB of 2^20 bytes'),
    )
    await assert.rejects(train('group_size: "8"'), fails('CONFIG_INVALID', 'without quotes'))
    await assert.rejects(train('use_4bit: yes'), fails('CONFIG_INVALID', 'is "yes"', 'write true'))
    await assert.rejects(train('engine: onnx-gpu'), fails('CONFIG_INVALID', 'did you mean "onnx-cpu"?'))
    await assert.rejects(
      train('rewards: [exact_match]'),
      fails('CONFIG_INVALID', 'write { name: exact_match }'),
    )
    await assert.rejects(
      train('rewards: [{ name: exact_mach }]'),
      fails('CONFIG_INVALID', 'did you mean { name: exact_match }?', '{ module: ./file.js }'),
    )
    await assert.rejects(
      load(`${MINIMAL}ring: { bootstrap: /ip4/192.0.2.1/tcp/4160 }\n`),
      fails('CONFIG_INVALID', 'write [/ip4/192.0.2.1/tcp/4160]'),
    )
    await assert.rejects(
      load(`${MINIMAL}ring: { bootstrap: [/ip4/192.0.2.1/tcp/4160/p2p/12D3KooWAbc] }\n`),
      fails('CONFIG_INVALID', 'the peer id after /p2p/ is not whole'),
    )
  })

  it('shows no value of a key that is secret', async () => {
    const server = 'rollout_server: { url: "http://127.0.0.1:1/v1", adapter_dir: a, api_key: 12345 }'
    await assert.rejects(load(`${MINIMAL}  ${server}\n`), (error: Error) => !error.message.includes('12345'))
  })

  it('refuses paths that only a shell understands, wherever they come from', async () => {
    await assert.rejects(
      load(`state_dir: ~/gym-state\n${MINIMAL}`),
      fails('CONFIG_INVALID', 'gym.yaml:1: state_dir is "~/gym-state"', `write ${homedir()}/gym-state`),
    )
    await assert.rejects(
      load(MINIMAL, { env: { GYM_TRAIN_DATASET: '$HOME/train.jsonl' } }),
      fails('CONFIG_INVALID', 'GYM_TRAIN_DATASET: train.dataset'),
    )
    await assert.rejects(
      loadStateDir({ file: null, env: {}, flags: new Map([['state_dir', '~/x']]), cwd: folder }),
      fails('CONFIG_INVALID', 'command line: state_dir'),
    )
    await load(`${MINIMAL.replace(': m', ': ./~m')}`)
  })

  it('names the line of a syntax error, and refuses a list, a missing file and a huge one', async () => {
    await assert.rejects(load('job: x\n  y: [\n'), fails('CONFIG_SYNTAX', 'gym.yaml:'))
    await assert.rejects(load('- 1\n'), fails('CONFIG_SYNTAX', 'found a list'))
    await assert.rejects(
      loadConfig({ file: join(folder, 'none.yaml'), env: {}, flags: new Map(), cwd: folder }),
      fails('CONFIG_NOT_FOUND', 'none.yaml'),
    )
    await assert.rejects(load(`# ${'x'.repeat(2_000_000)}\n`), fails('CONFIG_INVALID', '1048576'))
  })
})

describe('the keys', () => {
  it('have a description each, and environment names that do not collide', () => {
    const keys = flatKeys().filter((key) => !key.path.includes('*'))
    for (const key of keys) assert.notEqual(key.description, '', key.path)
    const names = keys.map((key) => environmentName(key.path))
    assert.equal(new Set(names).size, names.length)
  })

  it('suggest the nearest name and nothing when none is near', () => {
    assert.equal(suggest('modle', ['model', 'rounds']), 'model')
    assert.equal(suggest('zzzzzzzz', ['model', 'rounds']), null)
  })
})

it('takes the files of rewards and the folder of a rollout server relative to the file', async () => {
  const { config } = await load(
    `${MINIMAL}  rewards: [{ name: json, schema: s.json }, { name: json, schema: { type: object } }, { module: r.ts }]\n` +
      '  rollout_server: { url: "http://127.0.0.1:8000/v1", adapter_dir: adapter }\n',
  )
  const [file, inline, module] = config.train.rewards
  assert.equal(file !== undefined && 'schema' in file && file.schema, join(folder, 's.json'))
  assert.deepEqual(inline !== undefined && 'schema' in inline && inline.schema, { type: 'object' })
  assert.equal(module !== undefined && 'module' in module && module.module, join(folder, 'r.ts'))
  assert.equal(config.train.rollout_server?.adapter_dir, join(folder, 'adapter'))
})

describe('the file that init writes', () => {
  it('holds paths that YAML would read as something else', async () => {
    const text = configTemplate({ model: '/models/a: b #1', dataset: '/data/[x].jsonl' })
    const { config } = await load(text)
    assert.deepEqual([config.train.model, config.train.dataset], ['/models/a: b #1', '/data/[x].jsonl'])
  })

  it('is valid, holds every key, and shows the true defaults', async () => {
    const text = configTemplate({ model: 'm', dataset: 'd' })
    const { config } = await load(text)
    const uncommented = text.replaceAll(/(# {3}.*; GYM_[A-Z0-9_]+\n\s*)# /g, '$1')
    const shown = nodeConfigSchema.parse(dropUnset(parse(uncommented)))
    assert.deepEqual(
      { ...shown, state_dir: '', train: { ...shown.train, model: '', dataset: '' } },
      { ...config, state_dir: '', train: { ...config.train, model: '', dataset: '' } },
    )
    for (const key of CONFIG_KEYS.flatMap((section) => [section, ...section.children])) {
      if (key.path.includes('*')) continue
      assert.match(uncommented, new RegExp(`^\\s*${key.path.split('.').at(-1) ?? ''}:`, 'm'))
    }
  })
})

/**
 * Keys without a default are shown with an empty value, which YAML reads as null: they are not set. Neither is
 * `rollout_server`, an optional section with required keys of its own.
 */
function dropUnset(value: unknown, prefix = ''): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const unset = new Set(
    flatKeys()
      .filter((key) => key.fallback === undefined)
      .map((key) => key.path),
  )
  const entries = Object.entries(value)
    .map(([key, inner]) => [key, dropUnset(inner, `${prefix}${key}.`)] as const)
    .filter(([key, inner]) => !(inner === null && unset.has(prefix + key)) && key !== 'rollout_server')
  return Object.fromEntries(entries)
}
