/** What `doctor` finds out about a machine: one finding a subject, with what to do. Changes nothing. */
import { constants } from 'node:fs'
import { access, readFile, stat, statfs } from 'node:fs/promises'
import { createServer } from 'node:net'
import { cpus, freemem, networkInterfaces, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { createSocket } from 'node:dgram'
import { examineEngine, GspoError } from '@gym-node/gspo'
import { multiaddr } from '@multiformats/multiaddr'
import { formatBytes } from './cli/format.ts'
import { fetchStatus } from './cli/status.ts'
import type { NodeConfig } from './config/schema.ts'
import { trainerSettings } from './config/trainer-settings.ts'
import { CLOCK_TIMEOUT_MS, CLOCK_TOLERANCE_MS, LEAST_DISK_BYTES, LEAST_MEMORY_BYTES } from './defaults.ts'
import { errnoOf, messageOf } from './errors.ts'
import { statePaths } from './state/folder.ts'

/** One thing looked at. */
export interface Finding {
  readonly verdict: 'ok' | 'warning' | 'fault'
  readonly what: string
  readonly seen: string
  /** What to do; empty when nothing is to be done. */
  readonly advice: string
}

/** Looks at everything; `config` is null when it could not be read, and what depends on it is left out. */
export async function examineMachine(config: NodeConfig | null): Promise<Finding[]> {
  const machine = [nodeVersion(), await processor(), memory(), await graphics()]
  if (config === null) return machine
  return [
    ...machine,
    await model(config),
    await engine(config),
    await dataset(config),
    await disk(config),
    await identity(config),
    ...(await ports(config)),
    await reachability(config),
    await clock(),
  ]
}

function nodeVersion(): Finding {
  return finding('ok', 'Node', `${process.versions.node} on ${process.platform}-${process.arch}`)
}

async function processor(): Promise<Finding> {
  const all = cpus()
  const seen = `${all.length} x ${all[0]?.model.trim() ?? 'unknown'}`
  if (process.arch !== 'x64' || process.platform !== 'linux') return finding('ok', 'processor', seen)
  const flags = new Set(
    /^flags\s*: (.*)$/m.exec(await readFile('/proc/cpuinfo', 'utf8').catch(() => ''))?.[1]?.split(' '),
  )
  const wanted = ['avx2', 'avx512f', 'avx512_vnni', 'amx_tile'].filter((flag) => flags.has(flag))
  if (!flags.has('avx2'))
    return finding(
      'warning',
      'processor',
      `${seen}, no AVX2`,
      'training works, several times slower; use a newer processor',
    )
  return finding('ok', 'processor', `${seen}, ${wanted.join(' ')}`)
}

function memory(): Finding {
  const seen = `${formatBytes(freemem())} free of ${formatBytes(totalmem())}`
  if (totalmem() < LEAST_MEMORY_BYTES)
    return finding(
      'warning',
      'memory',
      seen,
      'small models only: the weights and about as much again must fit',
    )
  return finding('ok', 'memory', seen)
}

async function graphics(): Promise<Finding> {
  const nvidia = await readFile('/proc/driver/nvidia/version', 'utf8').catch(() => null)
  const render = await access('/dev/dri/renderD128', constants.R_OK | constants.W_OK).then(
    () => 'usable',
    (error: unknown) => errnoOf(error),
  )
  const driver =
    nvidia === null ? [] : [`NVIDIA driver ${/\d+\.\d+(\.\d+)?/.exec(nvidia)?.[0] ?? 'of unknown version'}`]
  if (render === 'usable' || nvidia !== null)
    return finding(
      'ok',
      'GPU',
      [...driver, ...(render === 'usable' ? ['/dev/dri/renderD128'] : [])].join(', '),
    )
  if (render === 'EACCES')
    return finding(
      'warning',
      'GPU',
      '/dev/dri/renderD128 is there but not for this user',
      'add the user to the groups render and video',
    )
  return finding('ok', 'GPU', 'none found, training runs on the processor')
}

async function model(config: NodeConfig): Promise<Finding> {
  const folder = config.train.model
  for (const name of ['config.json', 'tokenizer.json']) {
    if (!(await exists(join(folder, name))))
      return finding(
        'fault',
        'model',
        `${join(folder, name)} is missing`,
        'set train.model to a Hugging Face model folder',
      )
  }
  const files = ['model.safetensors', 'model.safetensors.index.json']
  const found = await Promise.all(files.map((name) => exists(join(folder, name))))
  if (!found.includes(true))
    return finding(
      'fault',
      'model',
      `${folder} has no safetensors weights`,
      'download the weights, or convert them with safetensors',
    )
  return finding('ok', 'model', folder)
}

/** What `train.engine` means here; the model's own faults are another finding. */
async function engine(config: NodeConfig): Promise<Finding> {
  try {
    const { text, isWarning } = await examineEngine(trainerSettings(config))
    return finding(isWarning ? 'warning' : 'ok', 'engine', text)
  } catch (error) {
    if (!(error instanceof GspoError) || error.code !== 'ENGINE_UNAVAILABLE')
      return finding('ok', 'engine', `${config.train.engine}, not examined: ${messageOf(error)}`)
    return finding('fault', 'engine', messageOf(error), 'or set train.engine to auto or onnx-cpu')
  }
}

async function dataset(config: NodeConfig): Promise<Finding> {
  const paths = [config.train.dataset].flat()
  for (const path of paths)
    if (!(await exists(path)))
      return finding(
        'fault',
        'data set',
        `${path} is missing`,
        'set train.dataset to JSONL files with prompt and answer',
      )
  return finding('ok', 'data set', paths.join(', '))
}

async function disk(config: NodeConfig): Promise<Finding> {
  const folder = await nearestExisting(config.state_dir)
  try {
    await access(folder, constants.W_OK)
  } catch (error) {
    return finding(
      'fault',
      'state folder',
      `cannot write ${folder}: ${messageOf(error)}`,
      'give the user of the daemon write access, or set state_dir',
    )
  }
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  const seen = `${config.state_dir}, ${formatBytes(free)} free`
  if (free < LEAST_DISK_BYTES)
    return finding(
      'warning',
      'state folder',
      seen,
      'free some space; a delta and a checkpoint are written every round',
    )
  return finding('ok', 'state folder', seen)
}

async function identity(config: NodeConfig): Promise<Finding> {
  const folder = statePaths(config.state_dir).identity
  if (!(await exists(folder))) return finding('ok', 'identity', 'none yet, the first start makes one')
  const modes = await Promise.all(
    ['ed25519.seed', 'ml-dsa-87.seed'].map(
      async (name) => (await stat(join(folder, name)).catch(() => null))?.mode,
    ),
  )
  if (modes.includes(undefined))
    return finding(
      'fault',
      'identity',
      `a seed is missing in ${folder}`,
      'restore it from a backup, or remove the folder to become a new peer',
    )
  if (modes.some((mode) => ((mode ?? 0) & 0o077) !== 0))
    return finding(
      'fault',
      'identity',
      `others can read the seeds in ${folder}`,
      `chmod 600 ${folder}/*.seed`,
    )
  return finding('ok', 'identity', folder)
}

async function ports(config: NodeConfig): Promise<Finding[]> {
  const wanted = config.ring.listen.flatMap((text) => {
    const parts = multiaddr(text).getComponents()
    const host = parts.find(({ name }) => name === 'ip4' || name === 'ip6')?.value
    const port = parts.find(({ name }) => name === 'tcp')?.value
    return host === undefined || port === undefined ? [] : [{ what: 'ring port', host, port: Number(port) }]
  })
  if (config.http.enabled)
    wanted.push({ what: 'status port', host: config.http.host, port: config.http.port })
  return Promise.all(
    wanted.map(async ({ what, host, port }) => {
      const error = await tryListen(host, port)
      if (error === null) return finding('ok', what, `${host}:${port} is free`)
      return finding(
        'fault',
        what,
        `${host}:${port}: ${error}`,
        'stop what holds it (a daemon that runs already?), or configure another port',
      )
    }),
  )
}

/** What the running daemon has been told by its peers; without one, what the configuration and interfaces say. */
async function reachability(config: NodeConfig): Promise<Finding> {
  const network = await fetchStatus(config.state_dir).then(
    (status) => status.ring.network ?? null,
    () => null, // no daemon runs: judged without it
  )
  if (network !== null) {
    const verdict = network.advice === '' ? 'ok' : 'warning'
    return finding(verdict, 'reachability', `${network.reachability}: ${network.seen}`, network.advice)
  }
  const hosts = config.ring.listen.map(
    (text) =>
      multiaddr(text)
        .getComponents()
        .find(({ name }) => name === 'ip4' || name === 'ip6')?.value ?? '',
  )
  if (hosts.every((host) => host.startsWith('127.') || host === '::1')) {
    return finding(
      'warning',
      'reachability',
      'the ring listens on loopback only',
      'set ring.listen to an address that other machines reach',
    )
  }
  const { isPrivateHost } = await import('@gym-node/ring')
  const own = Object.values(networkInterfaces()).flatMap((list) =>
    (list ?? []).filter((one) => !one.internal),
  )
  const isPublic = own.some(({ address }) => !isPrivateHost(address))
  const hasWay = config.network.announce.length > 0 || config.network.relays.length > 0
  if (!isPublic && !hasWay && config.network.relay !== 'always') {
    return finding(
      'warning',
      'reachability',
      'this machine has private addresses only, and neither network.announce nor network.relays is set',
      'within one network nothing is to be done; for peers elsewhere forward the port of ring.listen and name it in network.announce, or name a relay in network.relays',
    )
  }
  return finding(
    'ok',
    'reachability',
    `the ring listens on ${hosts.join(', ')}; the daemon says at start whether peers could dial back`,
  )
}

/** The clock against a time server (SNTP, RFC 4330): certificates and timestamps need it within seconds. */
async function clock(): Promise<Finding> {
  const offset = await clockOffset().catch(() => null)
  if (offset === null) return finding('ok', 'clock', 'no time server answered, not compared')
  const seen = `${Math.abs(offset).toFixed(0)} ms ${offset < 0 ? 'ahead of' : 'behind'} pool.ntp.org`
  if (Math.abs(offset) > CLOCK_TOLERANCE_MS)
    return finding('warning', 'clock', seen, 'let systemd-timesyncd or chrony set it')
  return finding('ok', 'clock', seen)
}

/** Milliseconds to add to this machine's clock; rejects when no server answers in time. */
async function clockOffset(): Promise<number> {
  const NTP_PORT = 123
  const PACKET_BYTES = 48
  const SECONDS_1900_TO_1970 = 2_208_988_800
  const socket = createSocket('udp4')
  try {
    const request = Buffer.alloc(PACKET_BYTES)
    request[0] = 0x23 // version 4, client
    const sentAt = Date.now()
    const reply = await new Promise<Buffer>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no answer')), CLOCK_TIMEOUT_MS)
      socket.once('error', reject)
      socket.once('message', (message) => {
        clearTimeout(timer)
        resolve(message)
      })
      socket.send(request, NTP_PORT, 'pool.ntp.org', (error) => {
        if (error !== null) reject(error)
      })
    })
    const seconds = reply.readUInt32BE(40) - SECONDS_1900_TO_1970 + reply.readUInt32BE(44) / 2 ** 32
    return seconds * 1_000 - (sentAt + Date.now()) / 2
  } finally {
    socket.close()
  }
}

async function tryListen(host: string, port: number): Promise<string | null> {
  const server = createServer()
  return new Promise((resolve) => {
    server.once('error', (error) => resolve(error.message))
    server.listen(port, host, () => server.close(() => resolve(null)))
  })
}

async function nearestExisting(path: string): Promise<string> {
  return (await exists(path)) || dirname(path) === path ? path : nearestExisting(dirname(path))
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

function finding(verdict: Finding['verdict'], what: string, seen: string, advice = ''): Finding {
  return { verdict, what, seen, advice }
}
