/** Ports, whether others can reach this node, and whether somebody answers where the configuration sends it. */
import { connect, createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import { multiaddr } from '@multiformats/multiaddr'
import { fetchStatus } from '../cli/status.ts'
import type { NodeConfig } from '../config/schema.ts'
import { BOOTSTRAP_TIMEOUT_MS } from '../defaults.ts'
import { messageOf } from '../errors.ts'
import { finding, type Finding } from './finding.ts'

/** The daemon whose state folder this is: it may hold the ports. */
export interface RunningDaemon {
  readonly pid: number
  readonly addresses: readonly string[]
  readonly http: string | null
}

/** Where a multiaddr leads over plain TCP: null for a relayed address or another transport. */
interface TcpPlace {
  readonly host: string
  readonly port: number
}

/** One finding a port, one for reachability, one a bootstrap address. Opens and closes sockets; changes nothing. */
export async function examineNetwork(config: NodeConfig, daemon: RunningDaemon | null): Promise<Finding[]> {
  return [
    ...(await ports(config, daemon)),
    await reachability(config),
    ...(await Promise.all([...config.ring.bootstrap, ...config.network.relays].map(bootstrap))),
  ]
}

async function ports(config: NodeConfig, daemon: RunningDaemon | null): Promise<Finding[]> {
  const own = new Set((daemon?.addresses ?? []).map((text) => tcpPlaceOf(text)?.port))
  const ownHttp = daemon?.http == null ? null : Number(new URL(daemon.http).port)
  const wanted = config.ring.listen.flatMap((text) => {
    const place = tcpPlaceOf(text)
    return place === null ? [] : [{ what: 'ring port', ...place, isOwn: own.has(place.port) }]
  })
  const { enabled, host, port } = config.http
  if (enabled) wanted.push({ what: 'status port', host, port, isOwn: ownHttp === port })
  return Promise.all(
    wanted.map(async ({ what, host, port, isOwn }) => {
      if (isOwn && daemon !== null)
        return finding('ok', what, `${host}:${port} is held by the daemon of this node, pid ${daemon.pid}`)
      if (port === 0) return finding('ok', what, `${host}, any free port`)
      const error = await tryListen(host, port)
      if (error === null) return finding('ok', what, `${host}:${port} is free`)
      return finding(
        'fault',
        what,
        `${host}:${port}: ${error}`,
        'stop what holds it (another daemon?), or configure another port',
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

/** Whether a connection opens to a configured address. A peer may be down, so that no answer is a warning. */
async function bootstrap(text: string): Promise<Finding> {
  const place = tcpPlaceOf(text)
  if (place === null) return finding('ok', 'bootstrap', `${text}, not tried`)
  const error = await tryConnect(place)
  if (error === null) return finding('ok', 'bootstrap', `${text} answers`)
  return finding(
    'warning',
    'bootstrap',
    `${text}: ${error}`,
    'compare it with what `gym-node status` prints there; is that node up, and its port let through?',
  )
}

function tcpPlaceOf(text: string): TcpPlace | null {
  const parts = multiaddr(text).getComponents()
  if (parts.some(({ name }) => name === 'p2p-circuit')) return null
  const host = parts.find(({ name }) => /^(ip[46]|dns[46]?)$/.test(name))?.value
  const port = parts.find(({ name }) => name === 'tcp')?.value
  return host === undefined || port === undefined ? null : { host, port: Number(port) }
}

async function tryListen(host: string, port: number): Promise<string | null> {
  const server = createServer()
  return new Promise((resolve) => {
    server.once('error', (error) => resolve(error.message))
    server.listen(port, host, () => server.close(() => resolve(null)))
  })
}

async function tryConnect({ host, port }: TcpPlace): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    const end = (error: string | null): void => {
      socket.destroy()
      resolve(error)
    }
    socket.setTimeout(BOOTSTRAP_TIMEOUT_MS, () => end(`no answer within ${BOOTSTRAP_TIMEOUT_MS} ms`))
    socket.once('connect', () => end(null))
    socket.once('error', (error) => end(messageOf(error)))
  })
}
