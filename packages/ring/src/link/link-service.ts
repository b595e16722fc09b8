/** Opens links and lets links in: who may open what, and under which view, is decided here. */
import { peerIdFromString } from '@libp2p/peer-id'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import type { Identity } from '@gym-node/wire'
import { DIAL_TIMEOUT_MS, LINK_PROTOCOL, STATE_PROTOCOL, type RingLimits } from '../defaults.ts'
import { RingError, toRingError } from '../errors.ts'
import { StreamCarrier } from '../net/stream-carrier.ts'
import { StateServer } from '../sync/serve.ts'
import type { CarrierChoice, StateProvider, View } from '../types.ts'
import { DirectListener } from '../net/direct-listener.ts'
import { offerDirect, takeDirect } from './direct.ts'
import { answerLink, initiateLink, type HandshakeOptions, type Preface } from './handshake.ts'
import type { Lanes } from './lanes.ts'
import type { SealedLink } from './sealed-link.ts'
import type { ViewLinks } from './view-links.ts'

/** What the service needs from the node it serves. */
export interface LinkServiceOptions {
  readonly node: Libp2p
  readonly identity: Identity
  readonly limits: RingLimits
  readonly peerTimeoutMs: number
  readonly state: StateProvider
  readonly carrier: CarrierChoice
  /** direct sockets offered per link */
  readonly sockets: number
  readonly listen: readonly string[]
  readonly isAllowed: (peer: string) => boolean
  readonly view: () => View | null
  readonly links: () => ViewLinks | null
  /** whether a connection was punched through NAT, so that no other socket can be dialled at its end */
  readonly isPunched: (connection: Connection) => boolean
  /** resolves when the view may have changed; rejects when the signal aborts */
  readonly nextChange: (signal: AbortSignal) => Promise<void>
  readonly onRejected: (error: RingError) => void
}

/** Round links and state links of one node. */
export class LinkService {
  readonly #o: LinkServiceOptions
  readonly #pending = new Map<string, number>()
  readonly #states: StateServer
  #listener: DirectListener | null = null
  opened = { direct: 0, stream: 0 }
  statesServed = 0

  constructor(options: LinkServiceOptions) {
    this.#o = options
    this.#states = new StateServer(options.state, options.limits)
  }

  async start(): Promise<void> {
    if (this.#o.carrier === 'direct') {
      this.#listener = new DirectListener()
      await this.#listener.start(directHost(this.#o.listen))
    }
    const streams = {
      runOnLimitedConnection: true,
      maxInboundStreams: 2 * this.#o.limits.pendingLinksPerPeer,
    }
    await this.#o.node.handle(LINK_PROTOCOL, (s, c) => this.#onInbound(s, c, LINK_PROTOCOL), streams)
    await this.#o.node.handle(STATE_PROTOCOL, (s, c) => this.#onInbound(s, c, STATE_PROTOCOL), streams)
  }

  stop(): void {
    this.#listener?.stop()
  }

  /** A link for the rounds of `view`. Throws RingError. */
  async dialRound(peer: string, view: View, signal: AbortSignal): Promise<Lanes> {
    const preface: Preface = { purpose: 'round', ringId: view.ringId, epoch: view.epoch }
    const stream = await this.#dial(peer, preface, LINK_PROTOCOL, signal)
    return this.#noted(await offerDirect(stream, this.#listener, this.#o.sockets, this.#o.limits))
  }

  /** A link to fetch state through, under the current view. Throws RingError. */
  async dialState(peer: string, signal: AbortSignal): Promise<SealedLink> {
    const view = this.#o.view()
    if (view === null) throw new RingError('VIEW_CHANGED', 'this node is in no view')
    return this.#dial(
      peer,
      { purpose: 'state', ringId: view.ringId, epoch: view.epoch },
      STATE_PROTOCOL,
      signal,
    )
  }

  async #dial(peer: string, preface: Preface, protocol: string, signal: AbortSignal): Promise<SealedLink> {
    try {
      const stream = await this.#o.node.dialProtocol(peerIdFromString(peer), protocol, {
        runOnLimitedConnection: true,
        signal: AbortSignal.any([signal, AbortSignal.timeout(DIAL_TIMEOUT_MS)]),
      })
      return await initiateLink(this.#handshake(stream, peer, protocol), preface)
    } catch (thrown) {
      throw toRingError(thrown, 'PEER_LOST', 'link did not open', peer)
    }
  }

  #onInbound(stream: Stream, connection: Connection, protocol: string): void {
    const peer = connection.remotePeer.toString()
    const pending = this.#pending.get(peer) ?? 0
    if (!this.#o.isAllowed(peer) || pending >= this.#o.limits.pendingLinksPerPeer) {
      const code = this.#o.isAllowed(peer) ? 'PEER_FLOOD' : 'PEER_DENIED'
      const error = new RingError(code, `no further link from this peer: ${pending} are in handshake`, {
        peer,
      })
      stream.abort(error)
      this.#o.onRejected(error)
      return
    }
    this.#pending.set(peer, pending + 1)
    const host = connection.direct && !this.#o.isPunched(connection) ? hostOf(connection) : null
    this.#answer(stream, peer, protocol, host).catch((thrown: unknown) => {
      this.#o.onRejected(toRingError(thrown, 'BAD_HANDSHAKE', 'inbound link', peer))
    })
  }

  async #answer(stream: Stream, peer: string, protocol: string, host: string | null): Promise<void> {
    const purpose = protocol === LINK_PROTOCOL ? 'round' : 'state'
    let link: SealedLink
    let preface: Preface
    try {
      const admit = (asked: Preface): Promise<void> => this.#admit(peer, asked, purpose)
      ;({ link, preface } = await answerLink(this.#handshake(stream, peer, protocol), admit))
    } finally {
      const left = (this.#pending.get(peer) ?? 1) - 1
      if (left === 0) this.#pending.delete(peer)
      else this.#pending.set(peer, left)
    }
    if (purpose === 'state') {
      if ((await this.#states.serve(link)) > 0) this.statesServed += 1
      return
    }
    const canDial = this.#o.carrier === 'direct' ? host : null
    const used = this.#noted(await takeDirect(link, canDial, this.#o.limits))
    const links = this.#o.links()
    if (links?.view.epoch === preface.epoch) links.accept(used)
    else used.abort(new RingError('VIEW_CHANGED', `epoch ${preface.epoch} is over`, { peer }))
  }

  /** Lets a link in when it is for this very view; a peer that learned of the view first waits here a little. */
  async #admit(peer: string, preface: Preface, purpose: Preface['purpose']): Promise<void> {
    const signal = AbortSignal.timeout(this.#o.peerTimeoutMs)
    while (!signal.aborted && (this.#o.view()?.epoch ?? 0) < preface.epoch) {
      await this.#o.nextChange(signal).catch(() => undefined) // the deadline is checked by the loop
    }
    const view = this.#o.view()
    const isCurrent =
      view?.ringId === preface.ringId && view.epoch === preface.epoch && preface.purpose === purpose
    const fits = purpose === 'round' ? this.#o.links()?.predecessor === peer : view?.members.includes(peer)
    if (isCurrent && fits === true) return
    throw new RingError(
      'VIEW_CHANGED',
      `no ${purpose} link of epoch ${preface.epoch} is due from this peer`,
      {
        peer,
      },
    )
  }

  #noted(lanes: Lanes): Lanes {
    this.opened[lanes.kind] += 1
    return lanes
  }

  #handshake(stream: Stream, peer: string, protocol: string): HandshakeOptions {
    const { identity, limits } = this.#o
    return {
      carrier: new StreamCarrier(stream),
      identity,
      peer,
      protocol,
      limits,
      timeoutMs: DIAL_TIMEOUT_MS,
    }
  }
}

/** Direct sockets listen where libp2p does: on loopback only, when that is all it was given. */
export function directHost(listen: readonly string[]): string {
  const isLocal = (address: string): boolean => /^\/(ip4\/127\.|ip6\/::1(\/|$))/.test(address)
  const hasIp6 = listen.some((address) => address.startsWith('/ip6/'))
  if (listen.length > 0 && listen.every(isLocal))
    return listen.every((address) => address.startsWith('/ip6/')) ? '::1' : '127.0.0.1'
  return hasIp6 ? '::' : '0.0.0.0'
}

/** The peer's address as this node sees it; null when the connection is not plain TCP. */
function hostOf(connection: Connection): string | null {
  const component = connection.remoteAddr.getComponents().find(({ name }) => name === 'ip4' || name === 'ip6')
  return component?.value ?? null
}
