/** Two neighbours agree, over their sealed stream link, on a direct socket for the bulk; or that the stream must do. */
import type { RingLimits } from '../defaults.ts'
import { RingError, toRingError } from '../errors.ts'
import { decodeOffer, encodeOffer, type DirectListener } from '../net/direct-listener.ts'
import { SocketCarrier } from '../net/socket-carrier.ts'
import { FRAME_KIND, SealedLink } from './sealed-link.ts'

const NONE = new Uint8Array(0)

/** The sender's side: offers a socket and waits for it. Returns the link to use; the stream link lives on beside it. */
export async function offerDirect(
  stream: SealedLink,
  listener: DirectListener | null,
  limits: RingLimits,
): Promise<SealedLink> {
  if (listener === null) {
    stream.send({ kind: FRAME_KIND.directNone, move: 0, round: 0, chunk: 0 }, NONE)
    return stream
  }
  const { offer, arrival, withdraw } = listener.offer()
  const answer = nextKind(stream, [FRAME_KIND.directReady, FRAME_KIND.directNone])
  stream.send({ kind: FRAME_KIND.directOffer, move: 0, round: 0, chunk: 0 }, encodeOffer(offer))
  const kind = (await answer).kind
  if (kind === FRAME_KIND.directNone) {
    withdraw()
    return stream
  }
  const direct = new SealedLink(await arrival, offer.keys, stream.peer, limits, NONE)
  tie(stream, direct)
  return direct
}

/** The receiver's side: takes an offer up by dialling `host`, or declines. */
export async function takeDirect(
  stream: SealedLink,
  host: string | null,
  limits: RingLimits,
): Promise<SealedLink> {
  const { kind, payload } = await nextKind(stream, [FRAME_KIND.directOffer, FRAME_KIND.directNone])
  if (kind === FRAME_KIND.directNone) return stream
  const decline = (): SealedLink => {
    stream.send({ kind: FRAME_KIND.directNone, move: 0, round: 0, chunk: 0 }, NONE)
    return stream
  }
  const offer = decodeOffer(payload)
  if (host === null) return decline()
  let carrier: SocketCarrier
  try {
    carrier = await SocketCarrier.dial(host, offer.port, limits.directDialMs)
  } catch {
    // Behind NAT or a firewall: the stream works, which is why it is kept.
    return decline()
  }
  carrier.send([offer.id])
  const direct = new SealedLink(carrier, offer.keys, stream.peer, limits, NONE)
  stream.send({ kind: FRAME_KIND.directReady, move: 0, round: 0, chunk: 0 }, NONE)
  tie(stream, direct)
  return direct
}

/** Either end of the pair takes the other with it. */
function tie(stream: SealedLink, direct: SealedLink): void {
  stream.onEnd((reason) => direct.abort(reason))
  direct.onEnd((reason) => stream.abort(reason))
}

function nextKind(
  link: SealedLink,
  kinds: readonly number[],
): Promise<{ kind: number; payload: Uint8Array }> {
  return new Promise((resolve, reject) => {
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
}
