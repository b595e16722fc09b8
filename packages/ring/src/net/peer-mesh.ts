/**
 * Finds the peers of a job and keeps one control channel to each: dials bootstrap addresses, learns members' addresses
 * from those it meets, dials again what it has lost. Of two peers the one with the lower id opens the stream.
 */
import { multiaddr } from '@multiformats/multiaddr'
import { peerIdFromString } from '@libp2p/peer-id'
import type { Connection, Libp2p, PeerId, Stream } from '@libp2p/interface'
import {
  CONTROL_PROTOCOL,
  DIAL_TIMEOUT_MS,
  REDIAL_MAX_MS,
  REDIAL_MIN_MS,
  type RingLimits,
} from '../defaults.ts'
import { RingError } from '../errors.ts'
import type { RingLogger } from '../types.ts'
import type { ViewMessage } from '../view/messages.ts'
import { compareText } from '../view/state.ts'
import { ControlChannel } from './control-channel.ts'
import type { ControlMessage, Hello, KnownPeer } from './peer-messages.ts'
import { StreamCarrier } from './stream-carrier.ts'

/** A peer of another job is left alone for this long before its stream is accepted or opened again. */
const FOREIGN_MS = 60_000

/** What the mesh reports. */
export interface MeshHandlers {
  onConnected(peer: string): void
  onDisconnected(peer: string): void
  onMessage(peer: string, message: ViewMessage): void
  onRejected(error: RingError): void
}

/** What the mesh is made of. */
export interface MeshOptions {
  readonly node: Libp2p
  readonly job: string
  readonly boot: string
  readonly bootstrap: readonly string[]
  readonly limits: RingLimits
  readonly logger: RingLogger
  readonly isAllowed: (peer: string) => boolean
  readonly handlers: MeshHandlers
}

interface Target {
  readonly addresses: () => readonly string[]
  /** who answered there last time */
  peer: string | null
  nextAt: number
  waitMs: number
  busy: boolean
}

/** All peers of one job that this node knows. */
export class PeerMesh {
  readonly #o: MeshOptions
  readonly #self: string
  readonly #channels = new Map<string, ControlChannel>()
  readonly #ready = new Set<string>()
  readonly #opening = new Set<string>()
  readonly #known = new Map<string, string[]>()
  readonly #foreignUntil = new Map<string, number>()
  readonly #targets = new Map<string, Target>()
  #retired = { sent: 0, received: 0 }
  #timer: NodeJS.Timeout | null = null

  constructor(options: MeshOptions) {
    this.#o = options
    this.#self = options.node.peerId.toString()
    for (const address of options.bootstrap) this.#addTarget(address, () => [address])
  }

  /** Bytes on control channels since start. */
  get traffic(): { sent: number; received: number } {
    let { sent, received } = this.#retired
    for (const channel of this.#channels.values()) {
      sent += channel.bytesSent
      received += channel.bytesReceived
    }
    return { sent, received }
  }

  async start(): Promise<void> {
    const { node } = this.#o
    await node.handle(CONTROL_PROTOCOL, (stream, connection) => this.#onInbound(stream, connection), {
      runOnLimitedConnection: true,
      maxInboundStreams: 4,
    })
    node.addEventListener('peer:connect', (event) => void this.#open(event.detail))
    node.addEventListener('peer:discovery', (event) => {
      const { id, multiaddrs } = event.detail
      this.#learn({ peer: id.toString(), addresses: multiaddrs.map((address) => address.toString()) })
    })
    this.#timer = setInterval(() => this.#maintain(), REDIAL_MIN_MS)
    this.#maintain()
  }

  /** Says nothing more and hears nothing more; queued messages are sent first. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    const channels = [...this.#channels.values()]
    await Promise.all(channels.map((channel) => channel.close()))
  }

  /** Sends to a peer that has said hello; silently nothing to one that is gone: its absence is an event of its own. */
  send(peer: string, message: ViewMessage): void {
    if (this.#ready.has(peer)) this.#channels.get(peer)?.send(message)
  }

  /** Peers that have said hello and are connected. */
  get peers(): string[] {
    return [...this.#ready]
  }

  /** A stream to any known peer, over its connection or a new one. */
  async openStream(peer: string, protocol: string, signal: AbortSignal): Promise<Stream> {
    const { node } = this.#o
    const id = peerIdFromString(peer)
    if (node.getConnections(id).length === 0) {
      const addresses = (this.#known.get(peer) ?? []).map((address) => multiaddr(address))
      if (addresses.length > 0) await node.dial(addresses, { signal })
    }
    return node.dialProtocol(id, protocol, { runOnLimitedConnection: true, signal })
  }

  /** Cuts a peer off, because it broke a rule. */
  drop(peer: string, reason: RingError): void {
    this.#channels.get(peer)?.abort(reason)
  }

  /** The addresses under which others can dial this node. */
  get addresses(): string[] {
    return this.#o.node.getMultiaddrs().map((address) => address.toString())
  }

  #maintain(): void {
    const now = performance.now()
    for (const peer of this.#o.node.getPeers()) void this.#open(peer)
    for (const [name, target] of this.#targets) {
      if (target.busy || now < target.nextAt || this.#ready.has(target.peer ?? name)) continue
      void this.#dial(target)
    }
  }

  /** Dials one target; failures wait longer each time. */
  async #dial(target: Target): Promise<void> {
    target.busy = true
    try {
      const addresses = target.addresses().map((address) => multiaddr(address))
      if (addresses.length > 0) {
        const connection = await this.#o.node.dial(addresses, {
          signal: AbortSignal.timeout(DIAL_TIMEOUT_MS),
        })
        target.peer = connection.remotePeer.toString()
      }
      target.waitMs = REDIAL_MIN_MS * 4
    } catch (cause) {
      target.waitMs = Math.min(REDIAL_MAX_MS, target.waitMs * 2)
      this.#o.logger.debug({ err: cause, addresses: target.addresses() }, 'dial failed')
    } finally {
      target.busy = false
      target.nextAt = performance.now() + target.waitMs
    }
  }

  #addTarget(name: string, addresses: () => readonly string[]): void {
    if (this.#targets.has(name)) return
    this.#targets.set(name, { addresses, peer: null, nextAt: 0, waitMs: REDIAL_MIN_MS, busy: false })
  }

  /** Opens the control stream where that is this node's part and none is open. */
  async #open(peerId: PeerId): Promise<void> {
    const peer = peerId.toString()
    if (compareText(this.#self, peer) > 0 || this.#channels.has(peer) || this.#opening.has(peer)) return
    if (!this.#o.isAllowed(peer) || performance.now() < (this.#foreignUntil.get(peer) ?? 0)) return
    this.#opening.add(peer)
    try {
      const stream = await this.#o.node.dialProtocol(peerId, CONTROL_PROTOCOL, {
        runOnLimitedConnection: true,
        signal: AbortSignal.timeout(DIAL_TIMEOUT_MS),
      })
      this.#adopt(peer, stream)
    } catch (cause) {
      this.#o.logger.debug({ err: cause, peer }, 'no control stream')
    } finally {
      this.#opening.delete(peer)
    }
  }

  #onInbound(stream: Stream, connection: Connection): void {
    const peer = connection.remotePeer.toString()
    const refuse = (error: RingError): void => {
      this.#o.handlers.onRejected(error)
      stream.abort(error)
    }
    if (!this.#o.isAllowed(peer)) {
      refuse(new RingError('PEER_DENIED', 'peer is not allowed here', { peer }))
      return
    }
    if (compareText(peer, this.#self) > 0) {
      refuse(new RingError('BAD_MESSAGE', 'the peer with the lower id opens the control stream', { peer }))
      return
    }
    this.#channels
      .get(peer)
      ?.abort(new RingError('PEER_LOST', 'the peer opened a new control stream', { peer }))
    this.#adopt(peer, stream)
  }

  #adopt(peer: string, stream: Stream): void {
    const channel: ControlChannel = new ControlChannel(new StreamCarrier(stream), peer, this.#o.limits, {
      onHello: (hello) => this.#onHello(peer, channel, hello),
      onMessage: (message) => this.#onMessage(peer, message),
      onEnd: (reason) => this.#onEnd(peer, channel, reason),
    })
    this.#channels.set(peer, channel)
    channel.send({
      t: 'hello',
      version: 1,
      job: this.#o.job,
      boot: this.#o.boot,
      addresses: this.#ownAddresses(),
      peers: this.#knownPeers(),
    })
  }

  #onHello(peer: string, channel: ControlChannel, hello: Hello): void {
    if (hello.job !== this.#o.job) {
      this.#foreignUntil.set(peer, performance.now() + FOREIGN_MS)
      channel.abort(new RingError('PEER_DENIED', 'peer works on another job', { peer }))
      return
    }
    this.#ready.add(peer)
    this.#learn({ peer, addresses: hello.addresses })
    for (const known of hello.peers) this.#learn(known)
    this.#announce(peer)
    this.#o.handlers.onConnected(peer)
  }

  #onMessage(peer: string, message: ControlMessage): void {
    if (message.t !== 'peers') {
      this.#o.handlers.onMessage(peer, message)
      return
    }
    for (const known of message.peers) this.#learn(known)
  }

  #onEnd(peer: string, channel: ControlChannel, reason: RingError): void {
    this.#retired.sent += channel.bytesSent
    this.#retired.received += channel.bytesReceived
    if (reason.code !== 'PEER_LOST') this.#o.handlers.onRejected(reason)
    if (this.#channels.get(peer) !== channel) return
    this.#channels.delete(peer)
    const target = this.#targets.get(peer)
    if (target !== undefined) target.nextAt = 0
    if (this.#ready.delete(peer)) this.#o.handlers.onDisconnected(peer)
  }

  /** Remembers where a peer can be dialled. */
  #learn({ peer, addresses }: KnownPeer): void {
    if (peer === this.#self || !this.#o.isAllowed(peer)) return
    const isNew = !this.#known.has(peer)
    if (isNew && this.#known.size >= this.#o.limits.knownPeers) return
    const usable = addresses.filter((address) => isDialable(address, peer))
    if (usable.length === 0 && !isNew) return
    this.#known.set(peer, usable.slice(0, this.#o.limits.addressesPerPeer))
    this.#addTarget(peer, () => this.#known.get(peer) ?? [])
  }

  /** Tells everybody about a peer that was just met: of two newcomers at least one learns of the other. */
  #announce(peer: string): void {
    const known = { peer, addresses: this.#known.get(peer) ?? [] }
    for (const other of this.#ready) {
      if (other !== peer) this.#channels.get(other)?.send({ t: 'peers', peers: [known] })
    }
  }

  #knownPeers(): KnownPeer[] {
    const met = [...this.#known].filter(([peer]) => this.#ready.has(peer))
    return met.map(([peer, addresses]) => ({ peer, addresses }))
  }

  #ownAddresses(): string[] {
    return this.addresses.slice(0, this.#o.limits.addressesPerPeer)
  }
}

function isDialable(address: string, peer: string): boolean {
  try {
    const named = multiaddr(address)
      .getComponents()
      .find((component) => component.name === 'p2p')?.value
    peerIdFromString(peer)
    return named === undefined || named === peer
  } catch {
    // An address this node cannot read is one it cannot dial.
    return false
  }
}
