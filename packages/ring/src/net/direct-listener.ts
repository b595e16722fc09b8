/**
 * Accepts direct sockets of neighbours that were offered one over their sealed stream. A socket begins with the id of
 * an open offer; whatever follows is sealed under that offer's keys. Anything else is closed.
 */
import { randomBytes } from 'node:crypto'
import net from 'node:net'
import { z } from 'zod'
import type { SealedKeys } from '@gym-node/wire'
import { MAX_DIRECT_SOCKETS } from '../defaults.ts'
import { RingError } from '../errors.ts'
import type { Carrier } from './carrier.ts'
import { SocketCarrier } from './socket-carrier.ts'

const ID_BYTES = 16
const KEYS_BYTES = 2 * (32 + 12)

/** A stranger's socket that has not named an offer after this long is closed. */
const NAME_TIMEOUT_MS = 3_000

/** Sockets that have not yet named an offer; one more, and the oldest of the host that has most of them goes. */
const MAX_UNNAMED = 64

/** One socket on offer: the ticket that it must begin with, and the keys of what follows. */
export interface DirectTicket {
  readonly id: Uint8Array
  readonly keys: SealedKeys
}

/** What the sender tells the receiver through the sealed stream. */
export interface DirectOffer {
  readonly port: number
  readonly tickets: readonly DirectTicket[]
}

const offerSchema = z.strictObject({
  port: z.number().int().min(1).max(65_535),
  tickets: z
    .array(z.strictObject({ id: z.base64().length(24), keys: z.base64().max(200) }))
    .min(1)
    .max(MAX_DIRECT_SOCKETS),
})

/** Writes an offer; the keys are the offering end's. */
export function encodeOffer(offer: DirectOffer): Uint8Array {
  const tickets = offer.tickets.map(({ id, keys: { send, receive } }) => ({
    id: Buffer.from(id).toString('base64'),
    keys: Buffer.concat([send.key, send.iv, receive.key, receive.iv]).toString('base64'),
  }))
  return new TextEncoder().encode(JSON.stringify({ port: offer.port, tickets }))
}

/** Reads an offer as its receiver, so with the directions turned round. Throws RingError BAD_FRAME. */
export function decodeOffer(payload: Uint8Array): DirectOffer {
  try {
    const value = offerSchema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload)))
    const tickets = value.tickets.map((ticket) => {
      const keys = new Uint8Array(Buffer.from(ticket.keys, 'base64'))
      const id = new Uint8Array(Buffer.from(ticket.id, 'base64'))
      if (keys.byteLength !== KEYS_BYTES) throw new Error(`keys are ${keys.byteLength} bytes`)
      if (id.byteLength !== ID_BYTES) throw new Error(`an id is ${id.byteLength} bytes`)
      return { id, keys: turn(splitKeys(keys)) }
    })
    return { port: value.port, tickets }
  } catch (cause) {
    throw new RingError('BAD_FRAME', 'not a direct offer', { cause })
  }
}

/** The listening end of direct sockets. */
export class DirectListener {
  readonly #server: net.Server
  readonly #offers = new Map<string, (carrier: Carrier) => void>()
  /** in the order of their coming, with the host that each comes from */
  readonly #unnamed = new Map<net.Socket, string>()

  constructor() {
    this.#server = net.createServer((socket) => this.#onSocket(socket))
    // Without a listener for it an accept error would end the process; the stream carrier still works.
    this.#server.on('error', () => undefined)
  }

  /** Listens on a free port of `host`. */
  start(host: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ host, port: 0 }, () => {
        this.#server.off('error', reject)
        resolve()
      })
    })
  }

  stop(): void {
    this.#offers.clear()
    this.#server.close()
  }

  /** Offers `count` sockets with fresh keys. `arrivals` resolve with them, in order; `withdraw` ends the offer. */
  offer(count: number): { offer: DirectOffer; arrivals: Promise<Carrier>[]; withdraw: () => void } {
    const address = this.#server.address()
    if (address === null || typeof address === 'string')
      throw new RingError('PEER_LOST', 'no direct listener')
    const tickets = Array.from({ length: count }, () => ({
      id: new Uint8Array(randomBytes(ID_BYTES)),
      keys: splitKeys(new Uint8Array(randomBytes(KEYS_BYTES))),
    }))
    const names = tickets.map(({ id }) => Buffer.from(id).toString('hex'))
    const arrivals = names.map((name) => {
      const arrival = Promise.withResolvers<Carrier>()
      this.#offers.set(name, arrival.resolve)
      return arrival.promise
    })
    const withdraw = (): void => {
      for (const name of names) this.#offers.delete(name)
    }
    return { offer: { port: address.port, tickets }, arrivals, withdraw }
  }

  #onSocket(socket: net.Socket): void {
    this.#unnamed.set(socket, socket.remoteAddress ?? '')
    // A neighbour names its offer at once; refusing the newest would let whoever holds sockets open keep it out.
    if (this.#unnamed.size > MAX_UNNAMED) this.#closeOldestOfMost()
    let head = Buffer.alloc(0)
    const settle = (): void => {
      clearTimeout(timer)
      socket.off('data', onData)
      socket.off('close', settle)
      this.#unnamed.delete(socket)
    }
    const timer = setTimeout(() => socket.destroy(), NAME_TIMEOUT_MS)
    const onData = (bytes: Buffer): void => {
      head = Buffer.concat([head, bytes])
      if (head.byteLength < ID_BYTES) return
      settle()
      const name = head.subarray(0, ID_BYTES).toString('hex')
      const take = this.#offers.get(name)
      this.#offers.delete(name)
      if (take === undefined) {
        socket.destroy()
        return
      }
      const carrier = SocketCarrier.accepted(socket)
      const rest = head.subarray(ID_BYTES)
      if (rest.byteLength > 0) socket.unshift(rest)
      take(carrier)
    }
    socket.on('error', () => socket.destroy())
    socket.on('data', onData)
    socket.once('close', settle)
  }

  /** Closes the first of the sockets of the host that has most without a name. */
  #closeOldestOfMost(): void {
    const counts = new Map<string, number>()
    for (const host of this.#unnamed.values()) counts.set(host, (counts.get(host) ?? 0) + 1)
    const most = Math.max(...counts.values())
    for (const [socket, host] of this.#unnamed) {
      if (counts.get(host) !== most) continue
      this.#unnamed.delete(socket)
      socket.destroy()
      return
    }
  }
}

function splitKeys(bytes: Uint8Array): SealedKeys {
  return {
    send: { key: bytes.slice(0, 32), iv: bytes.slice(32, 44) },
    receive: { key: bytes.slice(44, 76), iv: bytes.slice(76, 88) },
  }
}

function turn({ send, receive }: SealedKeys): SealedKeys {
  return { send: receive, receive: send }
}
