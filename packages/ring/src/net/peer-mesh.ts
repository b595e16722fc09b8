/**
 * Keeps one control channel to each peer of a job: dials those it has heard of, learns addresses from those it meets,
 * dials again what it has lost. Of two peers the one with the lower id opens the stream.
 */
import { multiaddr } from '@multiformats/multiaddr'
import { peerIdFromString } from '@libp2p/peer-id'
import type { Connection, Libp2p, PeerId, Stream } from '@libp2p/interface'
import { CONTROL_PROTOCOL, DIAL_TIMEOUT_MS, REDIAL_MIN_MS, type RingLimits } from '../defaults.ts'
import { CHANNEL_GRACE_MS, HOLE_PUNCH_WAIT_MS, MOST_OFFENCES, NEWS_BYTES } from './defaults.ts'
import { RingError } from '../errors.ts'
import type { RingLogger } from '../types.ts'
import type { ViewMessage } from '../view/messages.ts'
import { compareText } from '../view/state.ts'
import { ControlChannel } from './control-channel.ts'
import { DialTargets } from './dial-targets.ts'
import { LifeCheck } from './life-check.ts'
import { KnownPeers } from './known-peers.ts'
import { reportOutdated } from './outdated-peers.ts'
import type { NetCounters, PeerSource } from './net-counters.ts'
import { MAX_PEERS_TOLD } from './peer-messages.ts'
import type { ControlMessage, Hello, KnownPeer, PathsMessage } from './peer-messages.ts'
import { StreamCarrier } from './stream-carrier.ts'
import { Strangers } from './strangers.ts'

/** What the mesh reports. */
export interface MeshHandlers {
  onConnected(peer: string): void
  onDisconnected(peer: string): void
  onMessage(peer: string, message: ViewMessage): void
  onPaths(peer: string, row: PathsMessage['row']): void
  onRejected(error: RingError): void
}

/** What the mesh is made of. */
export interface MeshOptions {
  readonly node: Libp2p
  readonly job: string
  readonly boot: string
  readonly bootstrap: readonly string[]
  readonly limits: RingLimits
  readonly peerTimeoutMs: number
  readonly logger: RingLogger
  readonly counters: NetCounters
  /** connections are given a moment to become direct before the control stream settles on a relayed one */
  readonly waitsForHolePunch: boolean
  readonly isPrivate: boolean
  readonly isAllowed: (peer: string) => boolean
  /** whether a peer is in the view that this node is in */
  readonly isMember: (peer: string) => boolean
  readonly handlers: MeshHandlers
}

/** All peers of one job that this node knows. */
export class PeerMesh {
  readonly #o: MeshOptions
  readonly #self: string
  readonly #channels = new Map<string, ControlChannel>()
  readonly #ready = new Set<string>()
  readonly #opening = new Set<string>()
  readonly #known: KnownPeers
  readonly #targets: DialTargets
  readonly #life: LifeCheck
  readonly #strangers = new Strangers()
  readonly #relayedSince = new Map<string, number>()
  readonly #grace = new Map<string, NodeJS.Timeout>()
  /** peers with news that others have not been told yet */
  readonly #news = new Set<string>()
  #toldAt = -Infinity
  #announced = ''
  #retired = { sent: 0, received: 0 }
  #timer: NodeJS.Timeout | null = null

  constructor(options: MeshOptions) {
    const { node, limits, counters, logger, isPrivate } = options
    this.#o = options
    this.#self = node.peerId.toString()
    const isConnected = (peer: string): boolean => this.#channels.has(peer) || options.isMember(peer)
    this.#known = new KnownPeers(limits, counters, isConnected)
    const onReached = this.#known.noteReached.bind(this.#known)
    const { isMember } = options
    this.#targets = new DialTargets({ node, counters, logger, isPrivate, onReached, isMember })
    const heardAt = (peer: string): number | null => this.#channels.get(peer)?.heardAt ?? null
    this.#life = new LifeCheck({ node, silentMs: options.peerTimeoutMs, heardAt, logger })
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

  /** Begins to dial; bootstrap peers after `bootstrapDelayMs`, so that known addresses go first. */
  async start(bootstrapDelayMs = 0): Promise<void> {
    const { node, bootstrap } = this.#o
    for (const address of bootstrap) {
      this.#targets.add(address, () => [address], {
        source: 'bootstrap',
        peer: null,
        delayMs: bootstrapDelayMs,
      })
    }
    await node.handle(CONTROL_PROTOCOL, (stream, connection) => this.#onInbound(stream, connection), {
      runOnLimitedConnection: true,
      maxInboundStreams: 4,
    })
    node.addEventListener('peer:connect', (event) => void this.#open(event.detail))
    node.addEventListener('peer:disconnect', (event) => {
      const peer = event.detail.toString()
      this.#relayedSince.delete(peer)
      if (this.#endGrace(peer)) this.#o.handlers.onDisconnected(peer)
    })
    reportOutdated(node, this.#strangers, (error) => this.#o.handlers.onRejected(error))
    this.#timer = setInterval(() => this.#maintain(), REDIAL_MIN_MS)
    this.#maintain()
  }

  /** Says nothing more and hears nothing more; queued messages are sent first. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    for (const timer of this.#grace.values()) clearTimeout(timer)
    this.#grace.clear()
    const channels = [...this.#channels.values()]
    await Promise.all(channels.map((channel) => channel.close()))
  }

  /** Sends to a peer that has said hello; silently nothing to one that is gone: its absence is an event of its own. */
  send(peer: string, message: ControlMessage): void {
    if (this.#ready.has(peer)) this.#channels.get(peer)?.send(message)
  }

  /** Peers that have said hello and are connected. */
  get peers(): string[] {
    return [...this.#ready]
  }

  /** Where a peer can be dialled, as far as this node knows. */
  addressesOf(peer: string): readonly string[] {
    return this.#known.addressesOf(peer)
  }

  /** Remembers where `teller` says that a peer of the job can be dialled, and dials it. */
  learn(known: KnownPeer, source: PeerSource, teller: string = source): void {
    const { peer } = known
    if (peer === this.#self || !this.#o.isAllowed(peer) || !this.#known.learn(known, source, teller)) return
    const addresses = (attempt: number): readonly string[] => this.#known.dialListOf(peer, attempt)
    this.#targets.add(peer, addresses, { source, peer, delayMs: 0 })
  }

  /** A stream to any known peer, over its connection or a new one. */
  async openStream(peer: string, protocol: string, signal: AbortSignal): Promise<Stream> {
    const { node } = this.#o
    const id = peerIdFromString(peer)
    if (node.getConnections(id).length === 0) {
      const addresses = this.#known.addressesOf(peer).map((address) => multiaddr(address))
      if (addresses.length > 0) await node.dial(addresses, { signal })
    }
    return node.dialProtocol(id, protocol, { runOnLimitedConnection: true, signal })
  }

  /** The addresses under which others can dial this node. */
  get addresses(): string[] {
    return this.#o.node.getMultiaddrs().map((address) => address.toString())
  }

  #maintain(): void {
    for (const peer of this.#o.node.getPeers()) void this.#open(peer)
    this.#cutOff()
    this.#targets.dialDue()
    this.#life.look()
    this.#announceSelf()
    this.#tellNews()
  }

  /** Whoever is not allowed any more goes, links and all. */
  #cutOff(): void {
    for (const peer of this.#channels.keys()) {
      if (this.#o.isAllowed(peer)) continue
      for (const connection of this.#o.node.getConnections(peerIdFromString(peer)))
        connection.abort(new RingError('PEER_DENIED', 'peer is not allowed here any more', { peer }))
    }
  }

  /** Opens the control stream where that is this node's part and none is open. */
  async #open(peerId: PeerId): Promise<void> {
    const peer = peerId.toString()
    if (compareText(this.#self, peer) > 0 || this.#channels.has(peer) || this.#opening.has(peer)) return
    const isShut = this.#strangers.isShut(peer) || this.#strangers.has(peer)
    if (!this.#o.isAllowed(peer) || isShut || this.#mayBecomeDirect(peerId)) return
    this.#opening.add(peer)
    try {
      const stream = await this.#o.node.dialProtocol(peerId, CONTROL_PROTOCOL, {
        runOnLimitedConnection: true,
        signal: AbortSignal.timeout(DIAL_TIMEOUT_MS),
      })
      this.#adopt(peer, stream)
    } catch (cause) {
      // A relay or a node of the DHT is no peer of the job, and one that is just starting is not one yet.
      if (cause instanceof Error && cause.name === 'UnsupportedProtocolError')
        this.#strangers.noteSilent(peer)
      this.#o.logger.debug({ err: cause, peer }, 'no control stream')
    } finally {
      this.#opening.delete(peer)
    }
  }

  /** Whether all connections are relayed, hole punching is on, and its time is not over. */
  #mayBecomeDirect(peerId: PeerId): boolean {
    const peer = peerId.toString()
    const connections = this.#o.node.getConnections(peerId)
    if (!this.#o.waitsForHolePunch) return false
    if (!connections.every(isRelayed)) {
      if (this.#relayedSince.delete(peer)) this.#o.counters.holePunches += 1
      return false
    }
    const since = this.#relayedSince.get(peer) ?? performance.now()
    this.#relayedSince.set(peer, since)
    return performance.now() - since < HOLE_PUNCH_WAIT_MS
  }

  #onInbound(stream: Stream, connection: Connection): void {
    const peer = connection.remotePeer.toString()
    const refuse = (error: RingError): void => {
      this.#strangers.noteOffence(peer)
      this.#o.handlers.onRejected(error)
      stream.abort(error)
    }
    if (!this.#o.isAllowed(peer)) {
      refuse(new RingError('PEER_DENIED', 'peer is not allowed here', { peer }))
      return
    }
    if (this.#strangers.isShut(peer)) {
      this.#o.counters.hit('offences')
      stream.abort(new RingError('PEER_DENIED', 'too many offences of this peer', { peer }))
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
      this.#strangers.noteForeign(peer)
      channel.abort(new RingError('PEER_DENIED', 'peer works on another job', { peer }))
      return
    }
    this.#endGrace(peer)
    this.#ready.add(peer)
    this.learn({ peer, addresses: hello.addresses }, 'inbound')
    this.#known.noteMet(peer)
    for (const known of hello.peers) this.#hear(peer, known)
    this.#announce(peer)
    this.#o.handlers.onConnected(peer)
  }

  #onMessage(peer: string, message: ControlMessage): void {
    if (message.t === 'paths') {
      this.#o.handlers.onPaths(peer, message.row)
      return
    }
    if (message.t !== 'peers') {
      this.#o.handlers.onMessage(peer, message)
      return
    }
    for (const known of message.peers) {
      const before = this.#known.addressesOf(known.peer).join()
      this.#hear(peer, known)
      // Its own new addresses, as after a relay took it in, are passed on; hearsay is not, so that it ends.
      if (known.peer === peer && this.#known.addressesOf(peer).join() !== before) this.#announce(peer)
    }
  }

  /** What a peer says of itself counts as its own word, what it says of others as hearsay. */
  #hear(teller: string, known: KnownPeer): void {
    if (known.peer === teller) this.learn(known, 'inbound')
    else this.learn(known, 'peer', teller)
  }

  #onEnd(peer: string, channel: ControlChannel, reason: RingError): void {
    this.#retired.sent += channel.bytesSent
    this.#retired.received += channel.bytesReceived
    if (reason.code !== 'PEER_LOST') this.#o.handlers.onRejected(reason)
    // A flood has had its whole allowance, and a new stream would bring it another.
    if (reason.code === 'PEER_FLOOD') this.#strangers.noteOffence(peer, MOST_OFFENCES)
    else if (reason.code === 'BAD_MESSAGE') this.#strangers.noteOffence(peer)
    if (this.#channels.get(peer) !== channel) return
    this.#channels.delete(peer)
    this.#targets.hurry(peer)
    if (!this.#ready.delete(peer)) return
    const isConnected = this.#o.node.getConnections(peerIdFromString(peer)).some((c) => c.status === 'open')
    // The connection below was replaced, as by hole punching: the peer is there and the stream comes back.
    if (reason.code === 'PEER_LOST' && isConnected && this.#timer !== null) this.#beginGrace(peer)
    else this.#o.handlers.onDisconnected(peer)
  }

  #beginGrace(peer: string): void {
    const over = (): void => {
      this.#grace.delete(peer)
      this.#o.handlers.onDisconnected(peer)
    }
    clearTimeout(this.#grace.get(peer))
    this.#grace.set(peer, setTimeout(over, CHANNEL_GRACE_MS))
  }

  #endGrace(peer: string): boolean {
    clearTimeout(this.#grace.get(peer))
    return this.#grace.delete(peer)
  }

  /** Tells everybody about a peer that was just met: of two newcomers at least one learns of the other. */
  #announce(peer: string): void {
    this.#news.add(peer)
    this.#tellNews()
  }

  /**
   * All news in one message, at most one in `REDIAL_MIN_MS`: what many peers say, each within its own rate, must not add
   * up to more than others take from this node.
   */
  #tellNews(): void {
    const now = performance.now()
    if (this.#news.size === 0 || now - this.#toldAt < REDIAL_MIN_MS) return
    this.#toldAt = now
    const peers = this.#describe(this.#news, NEWS_BYTES)
    // What found no room comes with the next message.
    for (const { peer } of peers) this.#news.delete(peer)
    for (const other of this.#ready) {
      const forThem = peers.filter(({ peer }) => peer !== other)
      if (forThem.length > 0) this.#channels.get(other)?.send({ t: 'peers', peers: forThem })
    }
  }

  /** Tells everybody when this node's own addresses have changed. */
  #announceSelf(): void {
    const addresses = this.#ownAddresses()
    if (addresses.join() === this.#announced) return
    this.#announced = addresses.join()
    for (const peer of this.#ready) {
      this.#channels.get(peer)?.send({ t: 'peers', peers: [{ peer: this.#self, addresses }] })
    }
  }

  #knownPeers(): KnownPeer[] {
    return this.#describe(this.peers, this.#o.limits.controlMessageBytes / 2)
  }

  /** As many of these peers as fit well into a message, which others bound: the addresses are of strangers' choosing. */
  #describe(peers: Iterable<string>, bytes: number): KnownPeer[] {
    const described: KnownPeer[] = []
    let room = Math.min(bytes, this.#o.limits.controlMessageBytes / 2)
    for (const peer of peers) {
      const known = { peer, addresses: [...this.#known.addressesOf(peer)] }
      room -= JSON.stringify(known).length + 1
      if (room < 0 || described.length === MAX_PEERS_TOLD) break
      described.push(known)
    }
    return described
  }

  #ownAddresses(): string[] {
    return this.addresses.slice(0, this.#o.limits.addressesPerPeer)
  }
}

function isRelayed(connection: Connection): boolean {
  return connection.limits !== undefined || connection.remoteAddr.toString().includes('/p2p-circuit')
}
