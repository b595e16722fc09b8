/** The package's one error class: callers branch on `code`, never on the message. */

/** What can go wrong in training, as a closed list; also used as log field and metric label. */
export type GspoErrorCode =
  | 'FILE_MISSING'
  | 'FILE_UNWRITABLE'
  | 'BAD_SAFETENSORS'
  | 'BAD_MODEL_CONFIG'
  | 'UNKNOWN_ARCHITECTURE'
  | 'TENSOR_MISSING'
  | 'TENSOR_SHAPE'
  | 'BAD_ADAPTER'
  | 'BAD_BATCH'
  | 'BAD_GRAPH'
  | 'BAD_OPTION'
  | 'ENGINE_FAILED'
  | 'ENGINE_UNAVAILABLE'
  | 'ENGINE_DIED'
  | 'OUT_OF_MEMORY_LIMIT'
  | 'NON_FINITE'
  | 'CLOSED'
  | 'CANCELLED'
  | 'BAD_CONFIG'
  | 'BAD_DATASET'
  | 'BAD_TOKENIZER'
  | 'BAD_REWARD'
  | 'BAD_STATE'
  | 'BAD_TRACE'
  | 'ROLLOUT_FAILED'

/** Every failure of this package; the message says what was seen, what was expected and what to do. */
export class GspoError extends Error {
  readonly code: GspoErrorCode

  constructor(code: GspoErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'GspoError'
    this.code = code
  }
}
