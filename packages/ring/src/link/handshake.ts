/** Opens a sealed link over a carrier: a preface that says what the link is for, then the ML-KEM handshake of wire. */
import { z } from 'zod'
import type { Identity, SealContext } from '@gym-node/wire'
import { SealInitiator, SealResponder } from '@gym-node/wire'
import { HANDSHAKE_MESSAGE_BYTES, type RingLimits } from '../defaults.ts'
import { RingError, toRingError } from '../errors.ts'
import type { Carrier } from '../net/carrier.ts'
import { frameMessage, MessageReader } from '../net/messages.ts'
import { SealedLink } from './sealed-link.ts'

const prefaceSchema = z.strictObject({
  purpose: z.enum(['round', 'state', 'request']),
  ringId: z.string().min(1).max(128),
  epoch: z.number().int().min(1).max(0xffff_ffff),
})

/** What a link is for; both ends bind it into their keys. */
export type Preface = z.infer<typeof prefaceSchema>

/** One side of a handshake. */
export interface HandshakeOptions {
  readonly carrier: Carrier
  readonly identity: Identity
  /** the peer that the connection below authenticated */
  readonly peer: string
  readonly protocol: string
  readonly limits: RingLimits
  readonly timeoutMs: number
}

/** Dials: sends the preface, proves who it is, returns the link. Throws RingError BAD_HANDSHAKE, PEER_LOST or TIMEOUT. */
export async function initiateLink(options: HandshakeOptions, preface: Preface): Promise<SealedLink> {
  return bounded(options, async (reader) => {
    const { carrier, identity, peer } = options
    const seal = new SealInitiator({ identity, context: context(options, preface, identity.peerId, peer) })
    const opening = new TextEncoder().encode(JSON.stringify(preface))
    carrier.send([...frameMessage(opening), ...frameMessage(seal.hello())])
    const { confirm, keys } = seal.finish(await reader.read())
    carrier.send(frameMessage(confirm))
    return new SealedLink(carrier, keys, peer, options.limits)
  })
}

/** Answers: `admit` decides about the preface (it may wait, and throws to refuse). Same errors as `initiateLink`. */
export async function answerLink(
  options: HandshakeOptions,
  admit: (preface: Preface) => Promise<void>,
): Promise<{ link: SealedLink; preface: Preface }> {
  return bounded(options, async (reader) => {
    const { carrier, identity, peer } = options
    const preface = parsePreface(await reader.read())
    await admit(preface)
    const seal = new SealResponder({ identity, context: context(options, preface, peer, identity.peerId) })
    carrier.send(frameMessage(seal.reply(await reader.read())))
    const { keys } = seal.finish(await reader.read())
    return { link: new SealedLink(carrier, keys, peer, options.limits), preface }
  })
}

function context(
  options: HandshakeOptions,
  preface: Preface,
  initiator: string,
  responder: string,
): SealContext {
  const extra = new TextEncoder().encode(preface.purpose)
  return {
    protocol: options.protocol,
    ringId: preface.ringId,
    epoch: preface.epoch,
    initiator,
    responder,
    extra,
  }
}

function parsePreface(bytes: Uint8Array): Preface {
  try {
    return prefaceSchema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)))
  } catch (cause) {
    throw new RingError('BAD_HANDSHAKE', 'the link does not begin with a valid preface', { cause })
  }
}

/** Runs a handshake under its deadline; whatever goes wrong ends the carrier with a named error. */
async function bounded<T>(options: HandshakeOptions, run: (reader: MessageReader) => Promise<T>): Promise<T> {
  const { carrier, peer, timeoutMs } = options
  const late = new RingError('TIMEOUT', `no sealed link with the peer within ${timeoutMs} ms`, { peer })
  const timer = setTimeout(() => carrier.abort(late), timeoutMs)
  try {
    return await run(new MessageReader(carrier, HANDSHAKE_MESSAGE_BYTES))
  } catch (thrown) {
    const error = toRingError(thrown, 'BAD_HANDSHAKE', 'handshake failed', peer)
    carrier.abort(error)
    throw error
  } finally {
    clearTimeout(timer)
  }
}
