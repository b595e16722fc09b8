/** What a sealed channel is for: everything both ends must already agree on, hashed first into the transcript. */
import { concatBytes, utf8 } from './bytes.ts'
import { MAX_CONTEXT_FIELD_BYTES } from './defaults.ts'
import { WireError } from './errors.ts'
import { ed25519FromPeerId } from './peer-id.ts'

/** The setting of one channel. Two ends with different contexts never agree on a key. */
export interface SealContext {
  /** Protocol id with version, e.g. `/gym/ring/1`. */
  readonly protocol: string
  readonly ringId: string
  /** The view's epoch, an integer from 0 to 2^53-1; keys change with it. */
  readonly epoch: number
  /** Peer id of the end that sends the first message. */
  readonly initiator: string
  /** Peer id of the other end. */
  readonly responder: string
  /** Anything else to bind, e.g. the hash of the committed view or the link's number. Empty when absent. */
  readonly extra?: Uint8Array
  /** ML-DSA-87 public key the peer must show, when it is known beforehand (from the view): pins it post-quantum. */
  readonly peerMlDsa87PublicKey?: Uint8Array
}

const LABEL = utf8('gym-seal-v1\0')

/** Injective encoding of a context: every field is preceded by its length. Throws `BAD_ARGUMENT` on an invalid one. */
export function encodeSealContext(context: SealContext): Uint8Array {
  if (!Number.isSafeInteger(context.epoch) || context.epoch < 0) {
    throw new WireError('BAD_ARGUMENT', `epoch is ${context.epoch}, expected an integer from 0 to 2^53-1`)
  }
  if (context.initiator === context.responder) {
    throw new WireError(
      'BAD_ARGUMENT',
      `initiator and responder are both ${context.initiator}, expected two peers`,
    )
  }
  const epoch = Buffer.alloc(8)
  epoch.writeBigUInt64LE(BigInt(context.epoch))
  return concatBytes(
    LABEL,
    field('protocol', utf8(context.protocol)),
    field('ringId', utf8(context.ringId)),
    epoch,
    ed25519FromPeerId(context.initiator),
    ed25519FromPeerId(context.responder),
    field('extra', context.extra ?? new Uint8Array(0)),
  )
}

function field(name: string, bytes: Uint8Array): Uint8Array {
  if (bytes.length > MAX_CONTEXT_FIELD_BYTES) {
    throw new WireError('BAD_ARGUMENT', `${name} is ${bytes.length} bytes, limit ${MAX_CONTEXT_FIELD_BYTES}`)
  }
  const length = Buffer.alloc(4)
  length.writeUInt32LE(bytes.length)
  return concatBytes(length, bytes)
}
