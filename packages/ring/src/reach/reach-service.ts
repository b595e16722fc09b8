/**
 * Asks peers to dial this node back, and dials those back that ask. It does what AutoNAT is for: that one needs four
 * peers in different networks and skips private addresses, so a ring of three would not get an answer; and as of
 * @libp2p/autonat 3.0.28 its server takes the connection that is there for a new one, says yes, and closes it.
 */
import { multiaddr } from '@multiformats/multiaddr'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { REACH_CONCURRENT, REACH_DIAL_MS, REACH_PER_PEER_MS, REACH_PROTOCOL } from '../net/defaults.ts'
import { RingError, toRingError } from '../errors.ts'
import { MessageReader, frameMessage } from '../net/messages.ts'
import type { NetCounters } from '../net/net-counters.ts'
import { StreamCarrier } from '../net/stream-carrier.ts'
import {
  encodeReachAnswer,
  encodeReachRequest,
  MAX_REACH_MESSAGE_BYTES,
  parseReachAnswer,
  parseReachRequest,
} from './messages.ts'
import { hostOf, portOf, type DialBack } from './reachability.ts'

/** What the service works with. */
export interface ReachOptions {
  readonly node: Libp2p
  readonly counters: NetCounters
  readonly onRejected: (error: RingError) => void
}

/** Both sides of the protocol. */
export class ReachService {
  readonly #o: ReachOptions
  readonly #lastAsked = new Map<string, number>()
  #running = 0

  constructor(options: ReachOptions) {
    this.#o = options
  }

  async start(): Promise<void> {
    await this.#o.node.handle(REACH_PROTOCOL, (stream, connection) => this.#onInbound(stream, connection), {
      maxInboundStreams: 1,
      maxOutboundStreams: 2,
    })
  }

  async stop(): Promise<void> {
    await this.#o.node.unhandle(REACH_PROTOCOL)
  }

  /** Has the peer at the other end of a direct connection dial `port` back. Throws RingError. */
  async ask(connection: Connection, port: number): Promise<DialBack> {
    const peer = connection.remotePeer.toString()
    const signal = AbortSignal.timeout(2 * REACH_DIAL_MS)
    try {
      const carrier = new StreamCarrier(await connection.newStream(REACH_PROTOCOL, { signal }))
      const late = (): void =>
        carrier.abort(new RingError('TIMEOUT', `no answer within ${2 * REACH_DIAL_MS} ms`, { peer }))
      signal.addEventListener('abort', late, { once: true })
      const reader = new MessageReader(carrier, MAX_REACH_MESSAGE_BYTES)
      carrier.send(frameMessage(encodeReachRequest(port)))
      const answer = parseReachAnswer(await reader.read())
      await carrier.close()
      return answer
    } catch (thrown) {
      throw toRingError(thrown, 'PEER_LOST', 'asking for a dial back', peer)
    }
  }

  #onInbound(stream: Stream, connection: Connection): void {
    const carrier = new StreamCarrier(stream)
    const peer = connection.remotePeer.toString()
    const host = connection.limits === undefined ? hostOf(connection.remoteAddr.toString()) : null
    const refusal = this.#refusal(peer, host)
    if (refusal !== null || host === null) {
      carrier.abort(refusal ?? new RingError('REFUSED', 'no dial back over a relay', { peer }))
      return
    }
    this.#running += 1
    this.#answer(carrier, connection, host)
      .catch((thrown: unknown) => {
        const error = toRingError(thrown, 'BAD_MESSAGE', 'dial back', peer)
        carrier.abort(error)
        if (error.code !== 'PEER_LOST') this.#o.onRejected(error)
      })
      .finally(() => {
        this.#running -= 1
      })
  }

  /** Dials only the very host that asks, at most so often: this node must not become anybody's port scanner. */
  async #answer(carrier: StreamCarrier, connection: Connection, host: string): Promise<void> {
    const reader = new MessageReader(carrier, MAX_REACH_MESSAGE_BYTES)
    const late = setTimeout(
      () => carrier.abort(new RingError('TIMEOUT', 'dial back was not asked for in time')),
      REACH_DIAL_MS,
    )
    const port = parseReachRequest(await reader.read().finally(() => clearTimeout(late)))
    const reached = await this.#canDial(connection, host, port)
    carrier.send(frameMessage(encodeReachAnswer({ observedHost: host, reached })))
    await carrier.close()
  }

  async #canDial(connection: Connection, host: string, port: number): Promise<boolean> {
    const family = host.includes(':') ? 'ip6' : 'ip4'
    const address = multiaddr(`/${family}/${host}/tcp/${port}/p2p/${connection.remotePeer.toString()}`)
    try {
      const dialled = await this.#o.node.dial(address, {
        force: true,
        signal: AbortSignal.timeout(REACH_DIAL_MS),
      })
      const isDirect = portOf(dialled.remoteAddr.toString()) === port
      if (dialled.id !== connection.id) await dialled.close()
      return isDirect
    } catch {
      // Not reached is the answer here, whatever the reason was.
      return false
    }
  }

  #refusal(peer: string, host: string | null): RingError | null {
    if (host === null) return new RingError('REFUSED', 'no dial back over a relay', { peer })
    const now = performance.now()
    for (const [asker, at] of this.#lastAsked) {
      if (now - at > REACH_PER_PEER_MS) this.#lastAsked.delete(asker)
    }
    if (this.#lastAsked.has(peer) || this.#running >= REACH_CONCURRENT) {
      this.#o.counters.hit('dial_backs')
      return new RingError('PEER_FLOOD', `dials back are limited: one in ${REACH_PER_PEER_MS} ms`, { peer })
    }
    this.#lastAsked.set(peer, now)
    return null
  }
}
