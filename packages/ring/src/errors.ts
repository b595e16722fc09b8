/** The one error class of this package; callers branch on `code`, which is also the log field and metric label. */

/** Every way in which the ring refuses, gives up or accuses. */
export type RingErrorCode =
  | 'PEER_LOST'
  | 'ROUND_SUPERSEDED'
  | 'OUT_OF_SYNC'
  | 'STOPPED'
  | 'HASH_MISMATCH'
  | 'LENGTH_MISMATCH'
  | 'BAD_FRAME'
  | 'BAD_MESSAGE'
  | 'BAD_HANDSHAKE'
  | 'BAD_STATE'
  | 'BAD_SIGNATURE'
  | 'BROKEN_OFF'
  | 'PEER_FLOOD'
  | 'PEER_DENIED'
  | 'REFUSED'
  | 'VIEW_CHANGED'
  | 'TIMEOUT'
  | 'PORT_IN_USE'
  | 'BAD_ADDRESS'
  | 'BAD_SWARM_KEY'
  | 'BAD_ARGUMENT'
  | 'BAD_STORE'

/** What an error may carry besides its message. */
export interface RingErrorOptions {
  readonly cause?: unknown
  /** the peer that caused it, for the log; never a metric label */
  readonly peer?: string
  /** peers of which at least one is at fault, where more than a guess can be said; for the log too */
  readonly suspects?: readonly string[]
}

/** A failure of the ring with a code to branch on; the message says what was seen, expected and what to do. */
export class RingError extends Error {
  override readonly name = 'RingError'
  readonly code: RingErrorCode
  readonly peer: string | undefined
  readonly suspects: readonly string[]

  constructor(code: RingErrorCode, message: string, options: RingErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.peer = options.peer
    this.suspects = options.suspects ?? (options.peer === undefined ? [] : [options.peer])
  }
}

/** Wraps whatever was thrown as a RingError, keeping it when it already is one. */
export function toRingError(thrown: unknown, code: RingErrorCode, what: string, peer?: string): RingError {
  if (thrown instanceof RingError) return thrown
  const reason = thrown instanceof Error ? thrown.message : String(thrown)
  return new RingError(code, `${what}: ${reason}`, { cause: thrown, ...(peer === undefined ? {} : { peer }) })
}
