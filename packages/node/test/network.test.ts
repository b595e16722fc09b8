/** The commands that need no model: a relay that runs until it is stopped, and the key of a private network. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { networkConfigSchema } from '../src/network/config.ts'
import { ringNetwork } from '../src/network/ring-network.ts'
import { relayRegistry, serveMetrics } from '../src/relay-metrics.ts'

const BIN = new URL('../bin/gym-node.js', import.meta.url).pathname
let folder = ''

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gym-network-'))
})

after(() => rm(folder, { recursive: true, force: true }))

/** Runs a command to its end. */
async function run(...args: string[]): Promise<{ code: number; stderr: string }> {
  const child = spawn(process.execPath, ['--conditions=gym-source', BIN, ...args], { cwd: folder })
  let stderr = ''
  child.stderr.on('data', (part) => (stderr += String(part)))
  const [code] = (await once(child, 'close')) as [number]
  return { code, stderr }
}

describe('gym-node swarm-key', () => {
  it('writes a key for its owner only, which the ring takes, and overwrites nothing', async () => {
    assert.equal((await run('swarm-key', 'my.key')).code, 0)
    const path = join(folder, 'my.key')
    assert.equal((await stat(path)).mode & 0o777, 0o600)
    const text = await readFile(path, 'utf8')
    assert.match(text, /^\/key\/swarm\/psk\/1\.0\.0\/\n\/base16\/\n[0-9a-f]{64}\n$/)
    const again = await run('swarm-key', 'my.key')
    assert.equal(again.code, 2)
    assert.match(again.stderr, /OUTPUT_EXISTS/)
    const config = networkConfigSchema.parse({ swarm_key_file: path, known_peers: false })
    assert.equal((await ringNetwork(config, join(folder, 'peers.json'))).swarmKey, text)
  })

  it('is said to be missing by its path', async () => {
    const config = networkConfigSchema.parse({ swarm_key_file: join(folder, 'none.key') })
    await assert.rejects(ringNetwork(config, join(folder, 'peers.json')), /swarm_key_file .*none\.key/)
  })
})

describe('gym-node relay', () => {
  it('prints its address, keeps its identity, and ends with 0 when it is stopped', async () => {
    const addresses: string[] = []
    for (let k = 0; k < 2; k += 1) {
      const args = ['relay', '--state-dir', 'relay', '--listen', '/ip4/127.0.0.1/tcp/0']
      const child = spawn(process.execPath, ['--conditions=gym-source', BIN, ...args], { cwd: folder })
      for await (const line of createInterface(child.stderr)) {
        if (!line.startsWith('relay /')) continue
        addresses.push(line)
        child.kill('SIGTERM')
      }
      if (child.exitCode === null) await once(child, 'exit')
      assert.equal(child.exitCode, 0)
    }
    const [first, second] = addresses.map(
      (line) => /^relay \/ip4\/127\.0\.0\.1\/tcp\/\d+\/p2p\/(.+)$/.exec(line)?.[1],
    )
    assert.match(first ?? '', /^12D3KooW/)
    assert.equal(first, second)
  })

  it('tells Prometheus what it carries, and answers nothing else', async () => {
    const status = {
      reservations: 3,
      connections: 5,
      traffic: { bytes: 1000, waitingBytes: 7, streams: 2, pauses: 4 },
      limits: { denied: 6 },
    }
    const server = await serveMetrics(
      relayRegistry(() => status),
      { host: '127.0.0.1', port: 0 },
    )
    try {
      const { port } = server.address() as AddressInfo
      const scrape = async (): Promise<string> => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
      await scrape()
      status.traffic.bytes = 1500
      const text = await scrape()
      for (const line of [
        'gym_relay_places_count 3',
        'gym_relay_waiting_bytes 7',
        'gym_relay_bytes_total 1500',
        'gym_relay_pauses_total 4',
        'gym_relay_refusals_count{limit="denied"} 6',
      ])
        assert.ok(text.split('\n').includes(line), `${line} in\n${text}`)
      assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 404)
      await assert.rejects(
        serveMetrics(
          relayRegistry(() => status),
          { host: '127.0.0.1', port },
        ),
        {
          code: 'PORT_IN_USE',
        },
      )
    } finally {
      server.close()
      server.closeAllConnections()
    }
  })

  it('says what is wrong with its options', async () => {
    const { code, stderr } = await run('relay', '--places', 'many')
    assert.equal(code, 2)
    assert.match(stderr, /places/)
  })
})

describe('the known peers', () => {
  it('are in the state folder, and a missing file is no book', async () => {
    const path = join(folder, 'peers.json')
    const { book } = await ringNetwork(networkConfigSchema.parse({}), path)
    assert.equal(await book?.load(), null)
    await book?.save(new TextEncoder().encode('{}'))
    assert.equal(await readFile(path, 'utf8'), '{}')
  })
})
