/**
 * The local TCP port that dials to public addresses come from. Most NATs give one inside port the same outside port
 * whatever is dialled (RFC 5382, REQ-1), so what relays see of it is where a peer's dial has to knock. It is not the
 * port listened on: Node cannot dial from that one (EADDRINUSE, libp2p/js-libp2p#2620), and need not to punch a hole.
 */
import { createServer } from 'node:net'
import type {
  Connection,
  IdentifyResult,
  Libp2p,
  MultiaddrConnection,
  Transport,
  UpgraderOptions,
} from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { isPrivateHost } from './addresses.ts'
import { agreedMapping, type Mapping, type Sighting } from './mapping.ts'
import { hostOf, portOf } from './reachability.ts'

/** Two dials from one port need SO_REUSEADDR as Linux means it; elsewhere dials come from any port. */
const IS_USABLE = process.platform === 'linux'

type Dial = Transport['dial']

/** Chooses the port, and remembers what others see of it. */
export class PunchPort {
  readonly #localPorts = new WeakMap<Connection, number>()
  readonly #sightings = new Map<Connection, Sighting>()
  #port: Promise<number> | null = null

  /** Makes a TCP transport dial public addresses from this port, or from the one that `localPort` in the options says. */
  useFor(transport: Transport): Transport {
    const dial: Dial = transport.dial.bind(transport)
    transport.dial = async (address, options) => {
      if ('localPort' in options) return dial(address, asAgreed(options))
      if (!IS_USABLE || !isPublic(address)) return dial(address, options)
      this.#port ??= freePort()
      const port = await this.#port
      try {
        return await this.#dialFrom(port, dial, address, options)
      } catch (thrown) {
        if (!isTaken(thrown)) throw thrown
        // That very pair of addresses is in use, or was until a minute ago: another port is seen just as well.
        return this.#dialFrom(await freePort(), dial, address, options)
      }
    }
    return transport
  }

  /** Begins to remember what peers see. */
  watch(node: Libp2p): void {
    node.addEventListener('peer:identify', ({ detail }) => this.#onIdentify(detail))
    node.addEventListener('connection:close', ({ detail }) => this.#sightings.delete(detail))
  }

  /** Where a peer has to dial while this node dials it from `localPort`; null when not known or never the same. */
  mapping(): Mapping | null {
    return agreedMapping([...this.#sightings.values()])
  }

  /** Whether peers see this node's dials under ports that have nothing in common. */
  get varies(): boolean {
    return this.#sightings.size > 1 && this.mapping() === null
  }

  async #dialFrom(
    localPort: number,
    dial: Dial,
    address: Multiaddr,
    options: Parameters<Dial>[1],
  ): Promise<Connection> {
    const from = { ...options, localPort }
    const connection = await dial(address, from)
    this.#localPorts.set(connection, localPort)
    return connection
  }

  #onIdentify({ connection, observedAddr }: IdentifyResult): void {
    const localPort = this.#localPorts.get(connection)
    if (localPort === undefined || observedAddr === undefined || connection.status !== 'open') return
    const address = observedAddr.toString()
    const [host, port] = [hostOf(address), portOf(address)]
    if (host === null || port === null || isPrivateHost(host)) return
    this.#sightings.set(connection, { localPort, host, port })
  }
}

/**
 * Of two that dial each other the one that does not initiate has to answer, in the stream muxer too; libp2p's upgrader
 * hears of it, but yamux goes by the direction of the socket and ends with "Both endpoints are clients".
 */
function asAgreed(options: Parameters<Dial>[1]): Parameters<Dial>[1] {
  if (!('initiator' in options) || options.initiator !== false) return options
  const { upgrader } = options
  const upgradeOutbound = (socket: MultiaddrConnection, how: UpgraderOptions): Promise<Connection> =>
    upgrader.upgradeOutbound(Object.assign(socket, { direction: 'inbound' as const }), how)
  return {
    ...options,
    upgrader: Object.assign(Object.create(upgrader) as typeof upgrader, { upgradeOutbound }),
  }
}

function isPublic(address: Multiaddr): boolean {
  const host = hostOf(address.toString())
  return host !== null && !isPrivateHost(host)
}

function isTaken(thrown: unknown): boolean {
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined
  return code === 'EADDRINUSE' || code === 'EADDRNOTAVAIL'
}

/** A port that nobody uses now. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
