/** Doctor finds before the start what would end it, and takes a node that runs for no fault. */
import assert from 'node:assert/strict'
import { copyFile, mkdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { DEMO, demoFlags, runCommand, settings, temporaryFolder } from '../../../test/e2e/daemon-harness.ts'
import { nodeConfigSchema, type NodeConfig } from '../src/config/schema.ts'
import type { Finding } from '../src/doctor/finding.ts'
import { examineInputs } from '../src/doctor/inputs.ts'
import { examineNetwork } from '../src/doctor/network.ts'

describe('doctor', () => {
  it('finds nothing wrong with a good configuration, and says what to do about a bad one', async (t) => {
    const folder = await temporaryFolder(t)
    const good = await runCommand(['doctor', '--state-dir', join(folder, 's'), ...demoFlags(0)])
    assert.equal(good.code, 0, good.stdout)
    for (const part of [
      'Node',
      'processor',
      'memory',
      'GPU',
      'sealing',
      'model',
      'Qwen3ForCausalLM, 820,992 parameters in 1 weight file, 256 positions',
      'engine        onnx-cpu, chosen by auto: 0.8 million parameters',
      '9,000 rows in ',
      'rewards       exact_match',
      'state folder',
      'ring port',
      'clock',
      'nothing is at fault',
    ])
      assert.ok(good.stdout.includes(part), part)
    const bad = await runCommand([
      'doctor',
      '--state-dir',
      join(folder, 's'),
      ...demoFlags(0),
      ...settings({ 'train.model': folder }),
    ])
    assert.equal(bad.code, 3)
    assert.match(
      bad.stdout,
      /FAULT {2}model .*FILE_MISSING: cannot read .*config\.json.*\n +-> set train\.model/,
    )
  })
})

describe('doctor on inputs', () => {
  it('names the bad line of a data set, the missing reward module and the file that is no key', async (t) => {
    const folder = await temporaryFolder(t)
    const dataset = join(folder, 'train.jsonl')
    const lines = (await readFile(join(DEMO, 'train.jsonl'), 'utf8')).split('\n')
    lines[4011] = '{"prompt": "1+1=", "answer": '
    await writeFile(dataset, lines.join('\n'))
    const key = join(folder, 'swarm.key')
    await writeFile(key, '00112233445566778899aabbccddeeff'.repeat(2))
    const found = await inputs({
      network: { swarm_key_file: key },
      train: { dataset, rewards: [{ module: join(folder, 'nope.js') }] },
    })
    assert.match(faultOf(found, 'data set'), /^BAD_DATASET: .*train\.jsonl, line 4012: not valid JSON/)
    assert.match(faultOf(found, 'rewards'), /^BAD_REWARD: .*nope\.js/)
    assert.match(faultOf(found, 'swarm key'), /^BAD_SWARM_KEY: .*swarm\.key is not a swarm key/)
    assert.doesNotMatch(faultOf(found, 'swarm key'), /0011/, 'nothing of what may be a key is shown')
  })

  it('finds weights that were downloaded by half, and prompts without room for a completion', async (t) => {
    const folder = await temporaryFolder(t)
    await mkdir(join(folder, 'model'))
    for (const name of ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors'])
      await copyFile(join(DEMO, name), join(folder, 'model', name))
    await truncate(join(folder, 'model', 'model.safetensors'), 1_000_000)
    const found = await inputs({ train: { model: join(folder, 'model') } })
    assert.match(faultOf(found, 'model'), /^BAD_SAFETENSORS: .*truncated, download it again/)
    assert.ok(!found.some(({ what }) => what === 'engine'), 'what a broken model would say is left out')
    // The demo model has 256 positions and its prompts have up to 6 tokens: the default of 256 leaves no room.
    const long = await inputs({ train: { max_completion_length: 256 } })
    assert.match(faultOf(long, 'data set'), /^BAD_DATASET: .*prompt of \d tokens/)
  })
})

describe('doctor on the network', () => {
  it('takes ports that this node itself holds for no fault, and others for one', async (t) => {
    const server = createServer().listen(0, '127.0.0.1')
    t.after(() => server.close())
    await new Promise((done) => server.once('listening', done))
    const { port } = server.address() as AddressInfo
    const wanted = config({ http: { port }, ring: { listen: [`/ip4/127.0.0.1/tcp/${port}`] } })
    const own = await examineNetwork(wanted, {
      pid: 4711,
      addresses: [`/ip4/127.0.0.1/tcp/${port}`],
      http: `http://127.0.0.1:${port}/`,
    })
    const held = own.filter(({ what }) => what.endsWith('port'))
    assert.deepEqual(
      held.map(({ verdict }) => verdict),
      ['ok', 'ok'],
    )
    assert.match(held[0]?.seen ?? '', /held by the daemon of this node, pid 4711/)
    const others = await examineNetwork(wanted, null)
    assert.equal(others.filter(({ verdict }) => verdict === 'fault').length, 2)
  })

  it('tries bootstrap addresses: one that answers, one that refuses, and not a relayed one', async (t) => {
    const server = createServer().listen(0, '127.0.0.1')
    const closed = createServer().listen(0, '127.0.0.1')
    t.after(() => server.close())
    await Promise.all([server, closed].map((one) => new Promise((done) => one.once('listening', done))))
    const [open, shut] = [server, closed].map(
      (one) => `/ip4/127.0.0.1/tcp/${(one.address() as AddressInfo).port}`,
    )
    await new Promise((done) => closed.close(done))
    const relayed = `${open}/p2p-circuit`
    const found = await examineNetwork(
      config({ http: { enabled: false }, ring: { bootstrap: [open, shut, relayed] } }),
      null,
    )
    const lines = found
      .filter(({ what }) => what === 'bootstrap')
      .map(({ verdict, seen }) => `${verdict} ${seen}`)
    assert.equal(lines[0], `ok ${open} answers`)
    assert.match(lines[1] ?? '', /^warning .*ECONNREFUSED/)
    assert.equal(lines[2], `ok ${relayed}, not tried`)
  })
})

interface Sections {
  readonly train?: object
  readonly ring?: object
  readonly http?: object
  readonly network?: object
}

/** A configuration of the demo that listens on loopback. */
function config({ train = {}, ring = {}, ...rest }: Sections): NodeConfig {
  return nodeConfigSchema.parse({
    ...rest,
    ring: { listen: ['/ip4/127.0.0.1/tcp/0'], ...ring },
    train: { model: DEMO, dataset: join(DEMO, 'train.jsonl'), max_completion_length: 8, ...train },
  })
}

function inputs(sections: Sections): Promise<Finding[]> {
  return examineInputs(config(sections))
}

function faultOf(found: readonly Finding[], what: string): string {
  const one = found.find((finding) => finding.what === what)
  assert.equal(one?.verdict, 'fault', JSON.stringify(found))
  return one.seen
}
