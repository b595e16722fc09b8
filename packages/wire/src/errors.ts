/** The one error class of this package: callers branch on `code`, the message is for people. */

/**
 * What went wrong, as a log field and metric label:
 * - `BAD_ARGUMENT` the caller broke a precondition; `BAD_STATE` a one-shot object was used twice or out of order
 * - `BAD_KEY` a public or private key has the wrong form; `BAD_SIGNATURE` a signature does not verify
 * - `BAD_JSON` a value has no canonical JSON, or JSON bytes are not in canonical form
 * - `BAD_HANDSHAKE` a sealed-channel message is malformed or proves nothing
 * - `BAD_FRAME` a sealed frame's header or tag is wrong; `KEY_EXHAUSTED` a direction key has sealed all it may
 * - `BAD_DELTA` a DELTA file breaks its format; `TRUNCATED` it ends early; `BAD_CHECKSUM` its body was altered
 * - `BAD_METADATA` its metadata lacks or mistypes a field; `BAD_COMPRESSION` tensor bytes do not decompress
 * - `NON_FINITE` a tensor holds NaN or infinity; `UNSUPPORTED` a version, dtype or scheme this code does not know
 * - `BAD_ATTESTATION` attestation bytes are malformed or do not prove what they claim
 * - `LIMIT_EXCEEDED` a size from outside is over the reader's limit
 */
export type WireErrorCode =
  | 'BAD_ARGUMENT'
  | 'BAD_STATE'
  | 'BAD_KEY'
  | 'BAD_SIGNATURE'
  | 'BAD_JSON'
  | 'BAD_HANDSHAKE'
  | 'BAD_FRAME'
  | 'KEY_EXHAUSTED'
  | 'BAD_DELTA'
  | 'TRUNCATED'
  | 'BAD_CHECKSUM'
  | 'BAD_METADATA'
  | 'BAD_COMPRESSION'
  | 'NON_FINITE'
  | 'UNSUPPORTED'
  | 'BAD_ATTESTATION'
  | 'LIMIT_EXCEEDED'

/** Every failure this package reports on purpose; anything else that escapes is a bug. */
export class WireError extends Error {
  readonly code: WireErrorCode

  constructor(code: WireErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'WireError'
    this.code = code
  }
}
