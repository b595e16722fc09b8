/** Two neighbours agree, over their sealed stream link, on a direct sockets for the bulk; or that the stream must do. */
import type { RingLimits } from '../defaults.ts'
import { RingError, toRingError } from '../errors.ts'
import type { Carrier } from '../net/carrier.ts'
import { decodeOffer, encodeOffer, type DirectListener, type DirectOffer } from '../net/direct-listener.ts'
import { SocketCarrier } from '../net/socket-carrier.ts'
import { Lanes } from './lanes.ts'
import { FRAME_KIND, SealedLink } from './sealed-link.ts'

const NONE = new Uint8Array(0)
const SIGNAL = { move: 0, round: 0, chunk: 0 }

/** The sender's side: offers `count` sockets and waits for them. Returns what to use; the stream link lives on beside it. */
export async function offerDirect(
  stream: SealedLink,
  listener: DirectListener | null,
  count: number,
  limits: RingLimits,
): Promise<Lanes> {
  if (listener === null) {
    stream.send({ kind: FRAME_KIND.directNone, ...SIGNAL }, NONE)
    return new Lanes([stream])
  }
  const { offer, arrivals, withdraw } = listener.offer(count)
  // Whatever ends the stream link ends the offer; the arrivals then stay pending and are collected.
  stream.onEnd(withdraw)
  const answer = nextKind(stream, [FRAME_KIND.directReady, FRAME_KIND.directNone], limits)
  stream.send({ kind: FRAME_KIND.directOffer, ...SIGNAL }, encodeOffer(offer))
  if ((await answer).kind === FRAME_KIND.directNone) {
    withdraw()
    return new Lanes([stream])
  }
  return direct(stream, await arrived(stream, arrivals, limits), offer, limits)
}

/** All sockets that the peer says it has opened; when one is missing the link ends, and those that came are closed. */
async function arrived(
  stream: SealedLink,
  arrivals: readonly Promise<Carrier>[],
  { linkMs }: RingLimits,
): Promise<Carrier[]> {
  const late = new RingError('TIMEOUT', `direct sockets did not come in ${linkMs} ms`, { peer: stream.peer })
  const timer = setTimeout(() => stream.abort(late), linkMs)
  const lost = new Promise<never>((_, reject) => stream.onEnd(reject))
  try {
    return await Promise.race([Promise.all(arrivals), lost])
  } catch (thrown) {
    const reason = new RingError('PEER_LOST', 'the link that they belong to has ended', { peer: stream.peer })
    for (const arrival of arrivals) void arrival.then((carrier) => carrier.abort(reason))
    throw thrown
  } finally {
    clearTimeout(timer)
  }
}

/** The receiver's side: takes an offer up by dialling `host`, or declines. */
export async function takeDirect(
  stream: SealedLink,
  host: string | null,
  limits: RingLimits,
): Promise<Lanes> {
  const { kind, payload } = await nextKind(stream, [FRAME_KIND.directOffer, FRAME_KIND.directNone], limits)
  if (kind === FRAME_KIND.directNone) return new Lanes([stream])
  const offer = decodeOffer(payload)
  const carriers = host === null ? null : await dialAll(host, offer, limits)
  if (carriers === null) {
    stream.send({ kind: FRAME_KIND.directNone, ...SIGNAL }, NONE)
    return new Lanes([stream])
  }
  carriers.forEach((carrier, i) => carrier.send([offer.tickets[i].id]))
  stream.send({ kind: FRAME_KIND.directReady, ...SIGNAL }, NONE)
  return direct(stream, carriers, offer, limits)
}

/** All sockets of an offer, or null: behind NAT or a firewall the stream works, which is why it is kept. */
async function dialAll(host: string, offer: DirectOffer, limits: RingLimits): Promise<Carrier[] | null> {
  const dials = offer.tickets.map(() => SocketCarrier.dial(host, offer.port, limits.directDialMs))
  const settled = await Promise.allSettled(dials)
  const carriers = settled.filter((dial) => dial.status === 'fulfilled').map((dial) => dial.value)
  if (carriers.length === dials.length) return carriers
  for (const carrier of carriers) carrier.abort(new RingError('PEER_LOST', 'another direct socket failed'))
  return null
}

/** Sealed lanes over the sockets; either end of the pair takes the stream link with it. */
function direct(
  stream: SealedLink,
  carriers: readonly Carrier[],
  offer: DirectOffer,
  limits: RingLimits,
): Lanes {
  const links = carriers.map((carrier, i) => {
    return new SealedLink(carrier, offer.tickets[i].keys, stream.peer, limits)
  })
  const lanes = new Lanes([links[0], ...links.slice(1)])
  stream.onEnd((reason) => lanes.abort(reason))
  lanes.onEnd((reason) => stream.abort(reason))
  return lanes
}

/** The next frame, which must be of one of these kinds; a peer that sends none in time loses its link. */
function nextKind(
  link: SealedLink,
  kinds: readonly number[],
  { linkMs }: RingLimits,
): Promise<{ kind: number; payload: Uint8Array }> {
  const late = new RingError('TIMEOUT', `the peer said nothing of direct sockets in ${linkMs} ms`, {
    peer: link.peer,
  })
  const timer = setTimeout(() => link.abort(late), linkMs)
  const next = new Promise<{ kind: number; payload: Uint8Array }>((resolve, reject) => {
    link.onEnd((reason) => reject(toRingError(reason, 'PEER_LOST', 'link ended')))
    link.onFrame((header, payload) => {
      if (!kinds.includes(header.kind)) {
        const wanted = kinds.join(' or ')
        throw new RingError('BAD_FRAME', `frame kind ${header.kind}, expected ${wanted}`, { peer: link.peer })
      }
      link.park()
      resolve({ kind: header.kind, payload })
    })
  })
  return next.finally(() => clearTimeout(timer))
}
