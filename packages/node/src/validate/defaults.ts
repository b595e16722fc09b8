/** Defaults and limits of validation, with unit and reason. */

/** Most tokens of a micro-batch that a worker's trace may ask of a validator, unless its own setting is higher. */
export const MAX_REPLAY_MICRO_BATCH_TOKENS = 16_384

/** Most sequences decoded at once that a worker's trace may ask of a validator, unless its own setting is higher. */
export const MAX_REPLAY_DECODING_ROWS = 1_024

/** Completions judged one by one in a verdict's detail before it only counts; a verdict is read by people. */
export const MAX_PLACES_NAMED = 3
