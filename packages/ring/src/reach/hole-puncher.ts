/**
 * Turns a relayed connection into a direct one: two peers tell each other, through the relay, the outside addresses of
 * the ports that they dial from, and dial at the same moment, so that each one's first packet opens its own NAT for the
 * other's (TCP simultaneous open, RFC 9293 section 3.5). What libp2p calls DCUtR; its implementation for JavaScript
 * knows no such ports. The peer with the lower id leads, so that two attempts never meet.
 */
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr, type Multiaddr } from '@multiformats/multiaddr'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import type { TransportManager } from '@libp2p/interface-internal'
import { RingError, toRingError } from '../errors.ts'
import {
  PUNCH_AGAIN_MS,
  PUNCH_CONCURRENT,
  PUNCH_KNOCK_MS,
  PUNCH_MS,
  PUNCH_PROTOCOL,
} from '../net/defaults.ts'
import { frameMessage, MessageReader } from '../net/messages.ts'
import { StreamCarrier } from '../net/stream-carrier.ts'
import type { RingLogger } from '../types.ts'
import { compareText } from '../view/state.ts'
import { isPrivateHost } from './addresses.ts'
import type { Outside } from './mapping.ts'
import {
  encodePunchAddresses,
  encodePunchGo,
  MAX_PUNCH_MESSAGE_BYTES,
  parsePunchAddresses,
  parsePunchGo,
  type PunchAddresses,
} from './punch-messages.ts'
import type { PunchPort } from './punch-port.ts'
import { hostOf, portOf } from './reachability.ts'

/** What the puncher works with. */
export interface HolePuncherOptions {
  readonly node: Libp2p
  readonly transports: TransportManager
  readonly port: PunchPort
  readonly isAllowed: (peer: string) => boolean
  readonly logger: RingLogger
  readonly onRejected: (error: RingError) => void
}

interface Attempts {
  made: number
  nextAt: number
  busy: boolean
}

/** Both sides of the protocol. Call `tend` every now and then. */
export class HolePuncher {
  readonly #o: HolePuncherOptions
  readonly #self: string
  readonly #attempts = new Map<string, Attempts>()
  readonly #answering = new Set<string>()
  readonly #punched = new WeakSet<Connection>()

  constructor(options: HolePuncherOptions) {
    this.#o = options
    this.#self = options.node.peerId.toString()
  }

  async start(): Promise<void> {
    const { node, port } = this.#o
    port.watch(node)
    await node.handle(PUNCH_PROTOCOL, (stream, connection) => this.#onInbound(stream, connection), {
      runOnLimitedConnection: true,
      maxInboundStreams: 1,
    })
    node.addEventListener('connection:open', () => this.tend())
  }

  /** Whether a connection came to be by punching: nothing else of that peer can be dialled then. */
  isPunched(connection: Connection): boolean {
    return this.#punched.has(connection)
  }

  /** Leads an attempt with every peer where one is due. */
  tend(): void {
    for (const peer of this.#attempts.keys())
      if (this.#relayedTo(peer).length === 0) this.#attempts.delete(peer)
    const now = performance.now()
    const { open, outside } = this.#own()
    for (const peerId of this.#o.node.getPeers()) {
      const peer = peerId.toString()
      if (compareText(this.#self, peer) > 0 || !this.#o.isAllowed(peer)) continue
      const relayed = this.#relayedTo(peer)
      if (relayed.length === 0) continue
      const attempts = this.#attempts.get(peer) ?? { made: 0, nextAt: 0, busy: false }
      this.#attempts.set(peer, attempts)
      if (attempts.busy || now < attempts.nextAt || open.length + outside.length === 0) continue
      void this.#attempt(peer, relayed, attempts)
    }
  }

  async #attempt(peer: string, relayed: readonly Connection[], attempts: Attempts): Promise<void> {
    attempts.busy = true
    try {
      const connection = await this.#lead(peer, relayed)
      this.#o.logger.info(
        { peer, address: connection.remoteAddr.toString() },
        'a direct connection instead of a relayed one',
      )
      await Promise.all(relayed.map((one) => one.close()))
    } catch (err) {
      this.#o.logger.debug({ err, peer }, 'no direct connection')
    } finally {
      attempts.busy = false
      attempts.nextAt = performance.now() + (PUNCH_AGAIN_MS[attempts.made] ?? PUNCH_AGAIN_MS.at(-1) ?? 0)
      attempts.made += 1
    }
  }

  async #lead(peer: string, [relayed]: readonly Connection[]): Promise<Connection> {
    const signal = AbortSignal.timeout(PUNCH_MS)
    if (relayed === undefined) throw new RingError('PEER_LOST', 'no connection to talk over', { peer })
    const stream = await relayed.newStream(PUNCH_PROTOCOL, { signal, runOnLimitedConnection: true })
    const carrier = new StreamCarrier(stream)
    const late = this.#endLate(carrier, peer)
    try {
      const reader = new MessageReader(carrier, MAX_PUNCH_MESSAGE_BYTES)
      const askedAt = performance.now()
      carrier.send(frameMessage(encodePunchAddresses(this.#own())))
      const theirs = parsePunchAddresses(await reader.read())
      const roundTripMs = performance.now() - askedAt
      carrier.send(frameMessage(encodePunchGo()))
      // The word takes half a round trip to get there; both dial when it has.
      await new Promise((resolve) => setTimeout(resolve, roundTripMs / 2))
      return await this.#dial(peer, theirs, true)
    } finally {
      clearTimeout(late)
      await carrier.close()
    }
  }

  #onInbound(stream: Stream, connection: Connection): void {
    const peer = connection.remotePeer.toString()
    const carrier = new StreamCarrier(stream)
    const isBusy = this.#answering.has(peer) || this.#answering.size >= PUNCH_CONCURRENT
    // Over a direct connection there is nothing to punch, only a node to be sent knocking about.
    if (!this.#o.isAllowed(peer) || compareText(peer, this.#self) > 0 || connection.direct || isBusy) {
      const error = new RingError('REFUSED', 'no hole punching with this peer now', { peer })
      carrier.abort(error)
      this.#o.onRejected(error)
      return
    }
    this.#answering.add(peer)
    this.#follow(peer, carrier)
      .catch((thrown: unknown) => {
        const error = toRingError(thrown, 'PEER_LOST', 'hole punching', peer)
        carrier.abort(error)
        if (error.code === 'BAD_MESSAGE') this.#o.onRejected(error)
        else this.#o.logger.debug({ err: error, peer }, 'no direct connection')
      })
      .finally(() => this.#answering.delete(peer))
      .catch(() => undefined) // both outcomes are handled above
  }

  async #follow(peer: string, carrier: StreamCarrier): Promise<void> {
    const late = this.#endLate(carrier, peer)
    try {
      const reader = new MessageReader(carrier, MAX_PUNCH_MESSAGE_BYTES)
      const theirs = parsePunchAddresses(await reader.read())
      carrier.send(frameMessage(encodePunchAddresses(this.#own())))
      parsePunchGo(await reader.read())
      await this.#dial(peer, theirs, false)
      await carrier.close()
    } finally {
      clearTimeout(late)
    }
  }

  /** The first connection that any of the addresses gives. Who leads speaks first on one that both have dialled. */
  async #dial(peer: string, { open, outside }: PunchAddresses, leads: boolean): Promise<Connection> {
    const localPort = this.#o.port.mapping()?.localPort
    // One for each: a socket ends with its signal, however long it has been open.
    const stops: AbortController[] = []
    const stopper = (): AbortSignal => stops[stops.push(new AbortController()) - 1].signal
    const dials = open.map((address) =>
      this.#o.transports.dial(addressOf(address, peer), { signal: stopper() }),
    )
    if (localPort !== undefined) {
      for (const address of outside) {
        const options = { signal: stopper(), localPort, initiator: leads }
        dials.push(this.#knock(addressOf(address, peer), options))
      }
    }
    const stopAll = (except?: number): void => stops.forEach((stop, i) => i !== except && stop.abort())
    const late = setTimeout(stopAll, PUNCH_MS)
    try {
      const first = await Promise.any(
        dials.map(async (dial, i) => {
          const connection = await dial
          return { connection, i }
        }),
      )
      stopAll(first.i)
      return first.connection
    } catch (cause) {
      throw new RingError('PEER_LOST', `none of ${dials.length} dials gave a direct connection`, {
        cause,
        peer,
      })
    } finally {
      clearTimeout(late)
    }
  }

  /** A NAT or host that refuses a packet which came too early gets another one. */
  async #knock(
    address: Multiaddr,
    options: { readonly signal: AbortSignal; readonly localPort: number; readonly initiator: boolean },
  ): Promise<Connection> {
    for (;;) {
      try {
        const connection = await this.#o.transports.dial(address, options)
        this.#punched.add(connection)
        return connection
      } catch (thrown) {
        const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined
        if (options.signal.aborted || (code !== 'ECONNREFUSED' && code !== 'ECONNRESET')) throw thrown
        await new Promise((resolve) => setTimeout(resolve, PUNCH_KNOCK_MS))
      }
    }
  }

  #relayedTo(peer: string): Connection[] {
    const connections = this.#o.node
      .getConnections(peerIdFromString(peer))
      .filter(({ status }) => status === 'open')
    return connections.every(({ direct }) => !direct) ? connections : []
  }

  #own(): PunchAddresses {
    const open = this.#o.node.getMultiaddrs().map((address) => address.toString())
    const listening = open.map((address) => ({ host: hostOf(address), port: portOf(address) }))
    return {
      open: listening.filter(
        (address): address is Outside =>
          address.host !== null && address.port !== null && isPublicIp(address.host),
      ),
      outside: this.#o.port.mapping()?.outside ?? [],
    }
  }

  #endLate(carrier: StreamCarrier, peer: string): NodeJS.Timeout {
    const end = (): void =>
      carrier.abort(new RingError('TIMEOUT', `no hole punched within ${2 * PUNCH_MS} ms`, { peer }))
    return setTimeout(end, 2 * PUNCH_MS)
  }
}

function isPublicIp(host: string): boolean {
  return /^[0-9a-f.:]+$/i.test(host) && !isPrivateHost(host)
}

function addressOf({ host, port }: Outside, peer: string): Multiaddr {
  return multiaddr(`/${host.includes(':') ? 'ip6' : 'ip4'}/${host}/tcp/${port}/p2p/${peer}`)
}
